'use strict';
// Node.js. usage: bench.js WORKLOAD N [PORT]
// sleep(0) is a promisified setImmediate (one trip round the loop, fair to I/O). With BENCH_MICRO=1 a yield is
// `await null` instead: a microtask, which never lets the event loop run and so is not a like-for-like switch.
const W = process.argv[2], N = +process.argv[3] || 0, PORT = +process.argv[4];
const DIR = process.env.BENCH_DATA;
const yield_ = process.env.BENCH_MICRO ? () => null : () => new Promise(r => setImmediate(r));
const sleep = s => new Promise(r => setTimeout(r, s * 1000));
const times = (n, f) => Array.from({ length: n }, (_, i) => f(i));
let COUNT = N;

class Queue {
  constructor(max) { this.max = max; this.items = []; this.head = 0; this.getters = []; this.gh = 0; this.putters = []; this.ph = 0; }
  size() { return this.items.length - this.head; }
  _wake(list, h) { const i = this[h]; if (i < this[list].length) { const f = this[list][i]; this[list][i] = undefined; this[h]++; if (this[h] > 1024) { this[list] = this[list].slice(this[h]); this[h] = 0; } f(); } }
  async put(x) { while (this.size() >= this.max) await new Promise(r => this.putters.push(r)); this.items.push(x); this._wake('getters', 'gh'); }
  async get() {
    while (this.size() === 0) await new Promise(r => this.getters.push(r));
    const x = this.items[this.head++]; if (this.head > 1024) { this.items = this.items.slice(this.head); this.head = 0; }
    this._wake('putters', 'ph'); return x;
  }
}
class Sem {
  constructor(n) { this.n = n; this.w = []; this.h = 0; }
  acquire() { if (this.n > 0) { this.n--; return; } return new Promise(r => this.w.push(r)); }
  release() { if (this.h < this.w.length) { const f = this.w[this.h]; this.w[this.h++] = undefined; if (this.h > 4096) { this.w = this.w.slice(this.h); this.h = 0; } f(); } else this.n++; }
}
class Event_ { constructor() { this.s = false; this.w = []; } set() { this.s = true; const w = this.w; this.w = []; for (const f of w) f(); } clear() { this.s = false; } wait() { if (!this.s) return new Promise(r => this.w.push(r)); } }

async function guarded(n, tasks, width) {
  const s = new Sem(width);
  await Promise.all(times(tasks, async () => { for (let i = 0; i < n / tasks; i++) { await s.acquire(); try { await yield_(); } finally { s.release(); } } }));
}
async function sw(n, tasks) { await Promise.all(times(tasks, async () => { const k = n / tasks; for (let i = 0; i < k; i++) await yield_(); })); }
function withTimeout(p, s) { let t; return Promise.race([p, new Promise((_, rej) => { t = setTimeout(() => rej(new Error('timeout')), s * 1000); })]).finally(() => clearTimeout(t)); }
async function q(n, k) {
  const qu = new Queue(100);
  await Promise.all([...times(k, async () => { for (let i = 0; i < n / k; i++) await qu.put(i); }), ...times(k, async () => { for (let i = 0; i < n / k; i++) await qu.get(); })]);
}
const runs = {
  switch2: () => sw(N, 2), switch1000: () => sw(N, 1000), queue11: () => q(N, 1), queue44: () => q(N, 4),
  semaphore: () => guarded(N, 1000, 10), lock: () => guarded(N, 100, 1),
  async semaphore_uncontended() { const s = new Sem(1); for (let i = 0; i < N; i++) { await s.acquire(); s.release(); } },
  async queue_uncontended() { const s = new Queue(100); for (let i = 0; i < N; i++) { await s.put(i); if (await s.get() !== i) throw 1; } },
  async spawn_join() { const t = async () => 1; for (let i = 0; i < N / 1000; i++) await Promise.all(times(1000, t)); },
  async sleepers() { await Promise.all(times(N, () => sleep(0.5 + Math.random()))); },
  async waitfor() { const op = async () => 1; for (let i = 0; i < N; i++) await withTimeout(op(), 10); },
  async waitfor_yield() { for (let i = 0; i < N; i++) await withTimeout(yield_(), 10); },
  async event() {
    const a = new Event_(), b = new Event_();
    await Promise.all([(async () => { for (let i = 0; i < N / 2; i++) { b.set(); await a.wait(); a.clear(); } })(), (async () => { for (let i = 0; i < N / 2; i++) { await b.wait(); b.clear(); a.set(); } })()]);
  },
  async executor() {
    const { Worker } = require('worker_threads'); const ws = times(2, () => new Worker('const {parentPort:p}=require("worker_threads");p.on("message",m=>p.postMessage([m[0],m[1]+1]))', { eval: true }));
    const waiting = new Map(); let id = 0, left = N;
    for (const w of ws) w.on('message', m => { const f = waiting.get(m[0]); waiting.delete(m[0]); f(m[1]); });
    const job = x => new Promise(r => { const k = id++; waiting.set(k, r); ws[k & 1].postMessage([k, x]); });
    await job(0); await job(0); t0 = process.hrtime.bigint();
    await Promise.all(times(100, async () => { while (left > 0) { left--; await job(1); } }));
    t1 = process.hrtime.bigint(); for (const w of ws) w.terminate();
  },
  async cpu_map() {
    const { Worker } = require('worker_threads');
    const ws = times(2, () => new Worker('const {parentPort:p}=require("worker_threads");p.on("message",m=>{let s=m;for(let i=1;i<=1000000;i++)s=(s*31+i)%1000003;p.postMessage(s)})', { eval: true }));
    let next = 0;
    await Promise.all(ws.map(w => new Promise(done => { const more = () => { if (next < N) w.postMessage(next++); else done(); }; w.on('message', more); more(); })));
    t1 = process.hrtime.bigint(); for (const w of ws) w.terminate();
  },
  async executor_pool() { // the libuv pool itself: the cheapest public call that always goes there
    const fs = require('fs').promises; let left = N; await Promise.all(times(100, async () => { while (left > 0) { left--; await fs.access('/'); } }));
  },
  async file_many() { const fs = require('fs').promises; let i = 0; await Promise.all(times(64, async () => { while (i < N) { const b = await fs.readFile(`${DIR}/f${i++ % 10000}`); if (b.length !== 4096) throw 1; } })); },
  async spawn() {
    const { spawn } = require('child_process');
    let left = N;
    const one = () => new Promise((ok, bad) => spawn('true', { stdio: 'inherit' }).on('exit', ok).on('error', bad));
    await Promise.all(Array.from({ length: 8 }, async () => { while (left-- > 0) await one(); }));
  },
  async file_seq() { const f = await require('fs').promises.open(DIR + '/big'); const b = Buffer.alloc(65536); COUNT = 0; for (;;) { const { bytesRead } = await f.read(b, 0, 65536, null); if (!bytesRead) break; COUNT += bytesRead; } await f.close(); },
  async http_client() { // node:http with a keep-alive Agent
    const http = require('http'), agent = new http.Agent({ keepAlive: true, maxSockets: 64 }); let left = N;
    const get = () => new Promise((ok, no) => { http.get({ host: '127.0.0.1', port: PORT, path: '/', agent }, r => { let n = 0; r.on('data', d => { n += d.length; }); r.on('end', () => n === 13 ? ok() : no(new Error('size'))); }).on('error', no); });
    await Promise.all(times(64, async () => { while (left > 0) { left--; await get(); } })); agent.destroy();
  },
  async http_client_fetch() { let left = N; const u = `http://127.0.0.1:${PORT}/`; await Promise.all(times(64, async () => { while (left > 0) { left--; const r = await fetch(u); if ((await r.text()).length !== 13) throw 1; } })); t1 = process.hrtime.bigint(); setTimeout(() => process.exit(0), 0); },
  async http_client_undici() {
    const { Pool } = require(process.env.BENCH_NODE_MODULES + '/undici'); const p = new Pool(`http://127.0.0.1:${PORT}`, { connections: 64, pipelining: 1 }); let left = N;
    await Promise.all(times(64, async () => { while (left > 0) { left--; const r = await p.request({ path: '/', method: 'GET' }); if ((await r.body.text()).length !== 13) throw 1; } })); t1 = process.hrtime.bigint(); await p.close();
  },
};
const servers = {
  http_server(port) { const s = require('http').createServer((q, r) => { r.setHeader('Content-Type', 'text/plain'); r.end('Hello, World!'); }); s.listen(port, '127.0.0.1', 1024); },
  http2_server(port) { require('http2').createServer((q, r) => { r.setHeader('Content-Type', 'text/plain'); r.end('Hello, World!'); }).listen(port, '127.0.0.1', 1024); },
  http_json(port) {
    require('http').createServer((q, r) => {
      let text = '';
      q.setEncoding('utf8').on('data', d => text += d).on('end', () => {
        const order = JSON.parse(text);
        const total = order.items.reduce((sum, item) => sum + item.quantity * item.price, 0);
        r.setHeader('Content-Type', 'application/json');
        r.end(JSON.stringify({ id: order.id, customer: order.customer, count: order.items.length, total }));
      });
    }).listen(port, '127.0.0.1', 1024);
  },
  http_upload(port) {
    require('http').createServer((q, r) => {
      const parts = [];
      q.on('data', d => parts.push(d)).on('end', () => r.end(String(Buffer.concat(parts).length)));
    }).listen(port, '127.0.0.1', 1024);
  },
  http_file(port) {
    const { createReadStream, stat } = require('fs'), { join } = require('path');
    require('http').createServer((q, r) => {
      const path = join(process.env.BENCH_WEB, q.url);
      stat(path, (e, s) => { if (e) { r.statusCode = 404; return r.end(); } r.setHeader('Content-Length', s.size); createReadStream(path).pipe(r); });
    }).listen(port, '127.0.0.1', 1024);
  },
  tcp_echo(port) { require('net').createServer({ noDelay: true }, s => { s.on('data', d => s.write(d)); s.on('error', () => {}); }).listen(port, '127.0.0.1', 1024); },
  tls_server(port) {
    const { readFileSync } = require('fs'), chunk = Buffer.alloc(65536);
    require('tls').createServer({ cert: readFileSync(process.env.BENCH_CERT), key: readFileSync(process.env.BENCH_KEY) }, s => {
      let left = 2 ** 30;
      const more = () => { while (left > 0) { left -= chunk.length; if (!s.write(chunk)) return s.once('drain', more); } s.end(); };
      s.once('data', more); s.on('error', () => {});
    }).on('tlsClientError', () => {}).listen(port, '127.0.0.1', 1024);
  },
  ws_echo(port) { const { WebSocketServer } = require(process.env.BENCH_NODE_MODULES + '/ws'); new WebSocketServer({ port, host: '127.0.0.1', perMessageDeflate: false }).on('connection', w => { w.on('error', () => {}); w.on('message', m => w.send(m)); }); },
};
let t0, t1;
if (servers[W]) servers[W](N);
else if (W) {
  t0 = process.hrtime.bigint();
  runs[W]().then(() => { const t = Number((t1 || process.hrtime.bigint()) - t0) / 1e9; console.log(`${W} ${COUNT} ${t.toFixed(6)} ${(COUNT / t).toFixed(1)}`); });
}
