// Search, of which nothing is loaded before the first message to it. Browsers start no workers from files of a folder:
// there it runs in a frame that nobody sees.
//
// Chinese has no spaces between words, so two neighbouring characters count as one: pairs, spelled in hexadecimal, stand in
// fields of their own of what is indexed (message 0), and a query (message 2) asks for all that it has. The "--" of an option
// means nothing there.
const HAN = /"?(\p{sc=Han}+)"?/gu;
const spelled = characters => Array.from(characters, each => each.codePointAt().toString(16)).join("x");
const pairs = run => Array.from(run, (_, place) => spelled(run.slice(place, place + 2)));
const pairedQuery = query =>
  query
    .replace(/(^|\s)--+/g, "$1")
    .replace(HAN, (_, run) => ` +${run.length > 1 ? pairs(run).slice(0, -1).join(" +") : spelled(run) + "*"} `);
const pairDocuments = ({ config, docs }) => {
  for (const field of ["title", "text"]) {
    config.fields[`pairs_${field}`] = config.fields[field];
    for (const each of docs)
      each[`pairs_${field}`] = Array.from(each[field].matchAll(HAN), found => pairs(found[1]).join(" ")).join(" ");
  }
};
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
    if (data.type === 0) pairDocuments(data.data);
    this.post(data.type === 2 ? { ...data, data: pairedQuery(data.data) } : data);
  }
  terminate() {}
};
// The search script asks for this name to know that it is in a frame.
if (location.protocol === "file:") window.IFrameWorker = window.Worker;
