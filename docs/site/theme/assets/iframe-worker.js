// Search, of which nothing is loaded before the first message to it. Browsers start no workers from files of a folder:
// there it runs in a frame that nobody sees.
const NativeWorker = window.Worker;
const send = window.postMessage;
window.Worker = class extends EventTarget {
  constructor(url) {
    super();
    this.url = new URL(url, location.href).href;
  }
  hear(data) {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }
  inWorker() {
    const worker = new NativeWorker(this.url);
    worker.addEventListener("message", event => this.hear(event.data));
    return data => worker.postMessage(data);
  }
  inFrame() {
    const frame = document.createElement("iframe");
    frame.hidden = true;
    frame.title = "search";
    const source = this.url.replace(/"/g, "%22");
    frame.srcdoc =
      `<script>postMessage = data => parent.postMessage({ worker: data }, "*")<\/script><script src="${source}"><\/script>`;
    const ready = new Promise(resolve => frame.addEventListener("load", () => resolve(frame.contentWindow)));
    window.addEventListener("message", event => {
      if (event.source === frame.contentWindow && event.data && "worker" in event.data) this.hear(event.data.worker);
    });
    const attach = () => document.body.appendChild(frame);
    if (document.body) attach();
    else document.addEventListener("DOMContentLoaded", attach);
    return data => ready.then(target => send.call(target, data, "*"));
  }
  postMessage(data) {
    this.post ??= location.protocol === "file:" ? this.inFrame() : this.inWorker();
    this.post(data);
  }
  terminate() {}
};
// The search script asks for this name to know that it is in a frame.
if (location.protocol === "file:") window.IFrameWorker = window.Worker;
