/* Near-physical limit: plain C on libuv + http-parser. No scripting, no coroutines.
 * usage: bench WORKLOAD N            prints: workload n seconds ops_per_s
 *        bench http_server PORT | tcp_echo PORT | ws_echo PORT | http_client N PORT */
#define _GNU_SOURCE
#include <fcntl.h>
#include <http_parser.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

static uv_loop_t* L;
static double now(void) { return uv_hrtime() / 1e9; }
static void report(const char* w, long n, double t) {
  printf("%s %ld %.6f %.1f\n", w, n, t, n / t);
  fflush(stdout);
}
static void die(const char* m, int r) {
  fprintf(stderr, "%s: %s\n", m, uv_strerror(r));
  exit(1);
}

/* ---- sleepers ---- */
static void on_sleep(uv_timer_t* t) { uv_close((uv_handle_t*)t, (uv_close_cb)free); }
static void sleepers(long n) {
  double t0 = now();
  srand(1);
  for (long i = 0; i < n; i++) {
    uv_timer_t* t = malloc(sizeof *t);
    uv_timer_init(L, t);
    uv_timer_start(t, on_sleep, 500 + rand() % 1001, 0);
  }
  uv_run(L, UV_RUN_DEFAULT);
  report("sleepers", n, now() - t0);
}

/* ---- waitfor: a timer per operation; reuse=1 keeps the handle ---- */
static void never(uv_timer_t* t) {
  (void)t;
  abort();
}
static void waitfor(const char* w, long n, int reuse) {
  double t0 = now();
  uv_timer_t one;
  uv_timer_init(L, &one);
  for (long i = 0; i < n; i++) {
    if (reuse) {
      uv_timer_start(&one, never, 10000, 0);
      uv_timer_stop(&one);
    } else {
      uv_timer_t* t = malloc(sizeof *t);
      uv_timer_init(L, t);
      uv_timer_start(t, never, 10000, 0);
      uv_timer_stop(t);
      uv_close((uv_handle_t*)t, (uv_close_cb)free);
      if ((i & 1023) == 0) uv_run(L, UV_RUN_NOWAIT);
    }
  }
  uv_run(L, UV_RUN_DEFAULT);
  report(w, n, now() - t0);
}
/* ---- waitfor_yield: each operation goes once round the loop (uv_idle), timer armed meanwhile ----
 */
static long wy_left;
static uv_timer_t wy_t;
static uv_idle_t wy_i;
static void wy_cb(uv_idle_t* h) {
  uv_timer_stop(&wy_t);
  if (--wy_left == 0) {
    uv_idle_stop(h);
    return;
  }
  uv_timer_start(&wy_t, never, 10000, 0);
}
static void waitfor_yield(long n) {
  double t0 = now();
  wy_left = n;
  uv_timer_init(L, &wy_t);
  uv_idle_init(L, &wy_i);
  uv_timer_start(&wy_t, never, 10000, 0);
  uv_idle_start(&wy_i, wy_cb);
  uv_run(L, UV_RUN_DEFAULT);
  report("waitfor_yield", n, now() - t0);
}

/* ---- executor ---- */
static long ex_left, ex_done;
static void work(uv_work_t* w) { w->data = (void*)((intptr_t)w->data + 1); }
static void after(uv_work_t* w, int s) {
  (void)s;
  ex_done++;
  if (ex_left > 0) {
    ex_left--;
    uv_queue_work(L, w, work, after);
  }
}
static void executor(long n) {
  static uv_work_t ws[100];
  double t0 = now();
  ex_left = n;
  for (int i = 0; i < 100 && ex_left > 0; i++) {
    ex_left--;
    uv_queue_work(L, &ws[i], work, after);
  }
  uv_run(L, UV_RUN_DEFAULT);
  report("executor", ex_done, now() - t0);
}

/* ---- files: async through the pool (uv_fs_*), and plain synchronous calls ---- */
static long fm_next, fm_total, fm_bytes;
static const char* dir;
typedef struct {
  uv_fs_t r;
  uv_file fd;
  uv_buf_t b;
  char d[8192];
} fm_t;
static void fm_open(fm_t* f);
static void fm_closed(uv_fs_t* r) {
  fm_t* f = (fm_t*)r;
  uv_fs_req_cleanup(r);
  fm_open(f);
}
static void fm_read(uv_fs_t* r) {
  fm_t* f = (fm_t*)r;
  fm_bytes += r->result;
  uv_fs_req_cleanup(r);
  uv_fs_close(L, r, f->fd, fm_closed);
}
static void fm_opened(uv_fs_t* r) {
  fm_t* f = (fm_t*)r;
  f->fd = (uv_file)r->result;
  if (f->fd < 0) die("open", f->fd);
  uv_fs_req_cleanup(r);
  f->b = uv_buf_init(f->d, sizeof f->d);
  uv_fs_read(L, r, f->fd, &f->b, 1, 0, fm_read);
}
static void fm_open(fm_t* f) {
  if (fm_next >= fm_total) return;
  char p[512];
  snprintf(p, sizeof p, "%s/f%ld", dir, fm_next++ % 10000);
  uv_fs_open(L, &f->r, p, O_RDONLY, 0, fm_opened);
}
static void file_many(long n, int sync) {
  double t0 = now();
  if (sync) {
    static char d[8192];
    for (long i = 0; i < n; i++) {
      char p[512];
      snprintf(p, sizeof p, "%s/f%ld", dir, i % 10000);
      uv_fs_t r;
      uv_file fd = uv_fs_open(0, &r, p, O_RDONLY, 0, 0);
      uv_buf_t b = uv_buf_init(d, sizeof d);
      fm_bytes += uv_fs_read(0, &r, fd, &b, 1, 0, 0);
      uv_fs_close(0, &r, fd, 0);
    }
  } else {
    static fm_t fs[64];
    fm_total = n;
    for (int i = 0; i < 64; i++) fm_open(&fs[i]);
    uv_run(L, UV_RUN_DEFAULT);
  }
  if (fm_bytes != n * 4096) {
    fprintf(stderr, "bad size\n");
    exit(1);
  }
  report("file_many", n, now() - t0);
}
/* the same, each file in one trip to the pool: open, fstat, read, close */
typedef struct {
  uv_work_t w;
  char path[512];
  char* data;
  ssize_t size;
} ft_t;
static void ft_work(uv_work_t* w) {
  ft_t* f = (ft_t*)w;
  struct stat st;
  int fd = open(f->path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) < 0) {
    perror(f->path);
    exit(1);
  }
  f->data = malloc((size_t)st.st_size);
  f->size = read(fd, f->data, (size_t)st.st_size);
  close(fd);
}
static void ft_next(ft_t* f);
static void ft_done(uv_work_t* w, int s) {
  (void)s;
  ft_t* f = (ft_t*)w;
  fm_bytes += f->size;
  free(f->data);
  ft_next(f);
}
static void ft_next(ft_t* f) {
  if (fm_next >= fm_total) return;
  snprintf(f->path, sizeof f->path, "%s/f%ld", dir, fm_next++ % 10000);
  uv_queue_work(L, &f->w, ft_work, ft_done);
}
static void file_many_trip(long n) {
  static ft_t fs[64];
  double t0 = now();
  fm_total = n;
  for (int i = 0; i < 64; i++) ft_next(&fs[i]);
  uv_run(L, UV_RUN_DEFAULT);
  if (fm_bytes != n * 4096) {
    fprintf(stderr, "bad size\n");
    exit(1);
  }
  report("file_many", n, now() - t0);
}
static struct {
  uv_fs_t r;
  uv_file fd;
  int64_t off;
  uv_buf_t b;
} sq;
static void sq_cb(uv_fs_t* r) {
  ssize_t k = r->result;
  uv_fs_req_cleanup(r);
  if (k <= 0) return;
  sq.off += k;
  uv_fs_read(L, r, sq.fd, &sq.b, 1, sq.off, sq_cb);
}
static void file_seq(int sync) {
  static char buf[65536];
  char p[512];
  snprintf(p, sizeof p, "%s/big", dir);
  double t0 = now();
  sq.fd = uv_fs_open(0, &sq.r, p, O_RDONLY, 0, 0);
  if (sq.fd < 0) die("open", sq.fd);
  sq.b = uv_buf_init(buf, sizeof buf);
  if (sync) {
    ssize_t k;
    while ((k = uv_fs_read(0, &sq.r, sq.fd, &sq.b, 1, -1, 0)) > 0) sq.off += k;
  } else {
    uv_fs_read(L, &sq.r, sq.fd, &sq.b, 1, 0, sq_cb);
    uv_run(L, UV_RUN_DEFAULT);
  }
  report("file_seq", sq.off, now() - t0);
}

/* ---- servers ---- */
static const char RESP[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
static http_parser_settings HS;
typedef struct {
  uv_tcp_t h;
  http_parser p;
  int keep;
  uv_write_t w;
  int busy;
  int up;
  char in[65536];
  char* out;
  size_t cap;
  size_t len;
} conn;
static const char* answer = RESP;
static size_t answer_len = sizeof RESP - 1;
static int pending_resp;
static int on_complete(http_parser* p) {
  (void)p;
  pending_resp++;
  return 0;
}
static void c_free(uv_handle_t* h) {
  conn* c = (conn*)h;
  free(c->out);
  free(c);
}
static void c_close(conn* c) {
  if (!uv_is_closing((uv_handle_t*)c)) uv_close((uv_handle_t*)c, c_free);
}
static void c_alloc(uv_handle_t* h, size_t s, uv_buf_t* b) {
  (void)s;
  conn* c = (conn*)h;
  *b = uv_buf_init(c->in, sizeof c->in);
}
static void w_done(uv_write_t* w, int s) {
  free(w->data);
  free(w);
  (void)s;
}
static void c_write(conn* c, const char* d, size_t n) {
  uv_buf_t b = uv_buf_init((char*)d, (unsigned)n);
  int k = uv_try_write((uv_stream_t*)c, &b, 1);
  if (k == (int)n) return;
  if (k < 0) {
    if (k != UV_EAGAIN) {
      c_close(c);
      return;
    }
    k = 0;
  }
  uv_write_t* w = malloc(sizeof *w);
  w->data = malloc(n - k);
  memcpy(w->data, d + k, n - k);
  b = uv_buf_init(w->data, (unsigned)(n - k));
  uv_write(w, (uv_stream_t*)c, &b, 1, w_done);
}
static void http_read(uv_stream_t* s, ssize_t n, const uv_buf_t* b) {
  conn* c = (conn*)s;
  if (n <= 0) {
    if (n < 0) c_close(c);
    return;
  }
  pending_resp = 0;
  size_t k = http_parser_execute(&c->p, &HS, b->base, n);
  if (k != (size_t)n) {
    c_close(c);
    return;
  }
  while (pending_resp-- > 0) c_write(c, answer, answer_len);
}
/* files, limit only: the answer is in memory */
static void file_answer(size_t size) {
  char* text = malloc(size + 256);
  int head = sprintf(text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
  memset(text + head, 'x', size);
  answer = text;
  answer_len = head + size;
}
static void echo_read(uv_stream_t* s, ssize_t n, const uv_buf_t* b) {
  conn* c = (conn*)s;
  if (n <= 0) {
    if (n < 0) c_close(c);
    return;
  }
  c_write(c, b->base, n);
}
/* websocket echo, limit only: small unfragmented frames, one frame per read, fixed handshake answer
 */
static void ws_read(uv_stream_t* s, ssize_t n, const uv_buf_t* b) {
  conn* c = (conn*)s;
  unsigned char* p = (unsigned char*)b->base;
  if (n <= 0) {
    if (n < 0) c_close(c);
    return;
  }
  if (!c->up) {
    c->up = 1;
    static const char r[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: "
        "Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n";
    c_write(c, r, sizeof r - 1);
    return;
  }
  while (n >= 6) {
    size_t l = p[1] & 127;
    if (l > 125 || (size_t)n < l + 6 || (p[0] & 15) == 8) {
      c_close(c);
      return;
    }
    unsigned char o[128];
    o[0] = p[0];
    o[1] = (unsigned char)l;
    for (size_t i = 0; i < l; i++) o[2 + i] = p[6 + i] ^ p[2 + (i & 3)];
    c_write(c, (char*)o, l + 2);
    p += l + 6;
    n -= l + 6;
  }
}
static uv_read_cb RD;
static void on_conn(uv_stream_t* srv, int st) {
  if (st < 0) return;
  conn* c = calloc(1, sizeof *c);
  uv_tcp_init(L, &c->h);
  http_parser_init(&c->p, HTTP_REQUEST);
  if (uv_accept(srv, (uv_stream_t*)c)) {
    c_close(c);
    return;
  }
  uv_tcp_nodelay(&c->h, 1);
  uv_read_start((uv_stream_t*)c, c_alloc, RD);
}
static void serve(int port, uv_read_cb rd) {
  uv_tcp_t s;
  struct sockaddr_in a;
  RD = rd;
  signal(SIGPIPE, SIG_IGN);
  HS.on_message_complete = on_complete;
  uv_ip4_addr("127.0.0.1", port, &a);
  uv_tcp_init(L, &s);
  uv_tcp_bind(&s, (struct sockaddr*)&a, 0);
  int r = uv_listen((uv_stream_t*)&s, 1024, on_conn);
  if (r) die("listen", r);
  uv_run(L, UV_RUN_DEFAULT);
}

/* ---- http client: 64 keep-alive connections ---- */
static long hc_left, hc_done;
static const char REQ[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
static int hc_flag;
static int hc_complete(http_parser* p) {
  (void)p;
  hc_flag = 1;
  return 0;
}
static void hc_send(conn* c) {
  if (hc_left <= 0) {
    c_close(c);
    return;
  }
  hc_left--;
  c_write(c, REQ, sizeof REQ - 1);
}
static void hc_read(uv_stream_t* s, ssize_t n, const uv_buf_t* b) {
  conn* c = (conn*)s;
  if (n < 0) die("client read", n);
  if (n == 0) return;
  hc_flag = 0;
  if (http_parser_execute(&c->p, &HS, b->base, n) != (size_t)n) die("parse", UV_EIO);
  if (hc_flag) {
    hc_done++;
    hc_send(c);
  }
}
static void hc_conn(uv_connect_t* r, int st) {
  if (st) die("connect", st);
  conn* c = (conn*)r->handle;
  uv_read_start((uv_stream_t*)c, c_alloc, hc_read);
  hc_send(c);
}
static void http_client(long n, int port) {
  static uv_connect_t cr[64];
  struct sockaddr_in a;
  double t0 = now();
  uv_ip4_addr("127.0.0.1", port, &a);
  hc_left = n;
  HS.on_message_complete = hc_complete;
  for (int i = 0; i < 64; i++) {
    conn* c = calloc(1, sizeof *c);
    uv_tcp_init(L, &c->h);
    http_parser_init(&c->p, HTTP_RESPONSE);
    uv_tcp_nodelay(&c->h, 1);
    uv_tcp_connect(&cr[i], &c->h, (struct sockaddr*)&a, hc_conn);
  }
  uv_run(L, UV_RUN_DEFAULT);
  report("http_client", hc_done, now() - t0);
}

/* ---- spawn: 8 processes at once ---- */
static long to_spawn, running;
static void spawn_one(void);
static void on_exit_of(uv_process_t* p, int64_t status, int signal) {
  uv_close((uv_handle_t*)p, (uv_close_cb)free);
  if (to_spawn > 0) spawn_one();
}
static void spawn_one(void) {
  char* args[] = {"true", NULL};
  uv_stdio_container_t io[3] = {{.flags = UV_INHERIT_FD, .data.fd = 0},
                                {.flags = UV_INHERIT_FD, .data.fd = 1},
                                {.flags = UV_INHERIT_FD, .data.fd = 2}};
  uv_process_options_t o = {
      .file = "true", .args = args, .exit_cb = on_exit_of, .stdio = io, .stdio_count = 3};
  uv_process_t* p = malloc(sizeof *p);
  to_spawn--;
  int r = uv_spawn(L, p, &o);
  if (r < 0) die("uv_spawn", r);
}
static void spawn_uv(long n) {
  double t0 = now();
  to_spawn = n;
  for (int i = 0; i < 8 && to_spawn > 0; i++) spawn_one();
  uv_run(L, UV_RUN_DEFAULT);
  report("spawn", n, now() - t0);
}
static void spawn_posix(long n) {
  double t0 = now();
  char* args[] = {"true", NULL};
  for (long i = 0; i < n; i++) {
    pid_t pid;
    if (running == 8) waitpid(-1, NULL, 0), running--;
    int r = posix_spawnp(&pid, "true", NULL, NULL, args, environ);
    if (r) die("posix_spawn", -r);
    running++;
  }
  while (running-- > 0) waitpid(-1, NULL, 0);
  report("spawn", n, now() - t0);
}

int main(int c, char** v) {
  L = uv_default_loop();
  dir = getenv("BENCH_DATA");
  if (c < 2) return 0; /* startup: link, init the loop, leave */
  const char* w = v[1];
  long n = c > 2 ? atol(v[2]) : 0;
#define IS(x) (!strcmp(w, x))
  if (IS("sleepers"))
    sleepers(n);
  else if (IS("waitfor"))
    waitfor(w, n, 0);
  else if (IS("waitfor_reuse"))
    waitfor("waitfor", n, 1);
  else if (IS("waitfor_yield"))
    waitfor_yield(n);
  else if (IS("executor"))
    executor(n);
  else if (IS("file_many"))
    file_many(n, 0);
  else if (IS("file_many_sync"))
    file_many(n, 1);
  else if (IS("file_many_trip"))
    file_many_trip(n);
  else if (IS("file_seq"))
    file_seq(0);
  else if (IS("file_seq_sync"))
    file_seq(1);
  else if (IS("spawn"))
    spawn_uv(n);
  else if (IS("spawn_posix"))
    spawn_posix(n);
  else if (IS("http_server"))
    serve((int)n, http_read);
  else if (IS("http_file") || IS("http_file_small")) {
    file_answer(IS("http_file") ? 1 << 20 : 4096);
    serve((int)n, http_read);
  } else if (IS("tcp_echo"))
    serve((int)n, echo_read);
  else if (IS("ws_echo"))
    serve((int)n, ws_read);
  else if (IS("http_client"))
    http_client(n, atoi(v[3]));
  else {
    fprintf(stderr, "unknown workload %s\n", w);
    return 2;
  }
  return 0;
}
