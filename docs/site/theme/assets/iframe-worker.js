// Browsers start no workers from files of a folder. There the search runs in a frame that nobody sees.
if (location.protocol === "file:") {
  const send = window.postMessage;
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      const source = new URL(url, location.href).href.replace(/"/g, "%22");
      frame.srcdoc =
        `<script>postMessage = data => parent.postMessage({ worker: data }, "*")<\/script><script src="${source}"><\/script>`;
      this.ready = new Promise(resolve => frame.addEventListener("load", () => resolve(frame.contentWindow)));
      window.addEventListener("message", event => {
        if (event.source === frame.contentWindow && event.data && "worker" in event.data)
          this.dispatchEvent(new MessageEvent("message", { data: event.data.worker }));
      });
      const attach = () => document.body.appendChild(frame);
      if (document.body) attach();
      else document.addEventListener("DOMContentLoaded", attach);
    }
    postMessage(data) {
      this.ready.then(target => send.call(target, data, "*"));
    }
    terminate() {}
  };
  // The search script asks for this name to know that it is in a frame.
  window.IFrameWorker = window.Worker;
}
