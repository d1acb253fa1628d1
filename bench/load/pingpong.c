/* Fixed load client for every tcp_echo and ws_echo server (raw epoll, one thread).
 * usage: pingpong tcp|ws PORT CONNS SECONDS BYTES
 * Each connection sends one message, waits for the whole echo, sends the next.
 * prints: mode messages seconds msgs_per_s p50_us=.. p99_us=.. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint64_t ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static int fds[16384];
static size_t got[16384];
static uint64_t sent[16384];
static uint32_t* lat;
static size_t nlat, caplat = 1 << 24;
static int cmp(const void* a, const void* b) {
  uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return x < y ? -1 : x > y;
}

int main(int c, char** v) {
  if (c < 6) return 2;
  int ws = !strcmp(v[1], "ws"), port = atoi(v[2]), n = atoi(v[3]), size = atoi(v[5]);
  double secs = atof(v[4]);
  if (n > 16384 || size > 125) return 2;
  char out[256], in[65536];
  size_t outn = size, inn = size;
  memset(out, 'x', sizeof out);
  if (ws) {
    out[0] = (char)0x82;
    out[1] = (char)(0x80 | size);
    memcpy(out + 2, "\x12\x34\x56\x78", 4);
    for (int i = 0; i < size; i++) out[6 + i] = 'x' ^ out[2 + (i & 3)];
    outn = size + 6;
    inn = size + 2;
  }
  lat = malloc(caplat * sizeof *lat);
  int ep = epoll_create1(0);
  struct sockaddr_in a = {
      .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  for (int i = 0; i < n; i++) {
    int s = fds[i] = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (connect(s, (void*)&a, sizeof a)) {
      perror("connect");
      return 1;
    }
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (ws) {
      static const char h[] =
          "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: "
          "Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: "
          "13\r\n\r\n";
      if (write(s, h, sizeof h - 1) < 0) return 1;
      size_t k = 0;
      in[0] = 0;
      while (!strstr(in, "\r\n\r\n")) {
        ssize_t r = read(s, in + k, sizeof in - 1 - k);
        if (r <= 0) {
          fprintf(stderr, "handshake\n");
          return 1;
        }
        k += r;
        in[k] = 0;
      }
      if (strncmp(in, "HTTP/1.1 101", 12)) {
        fprintf(stderr, "no upgrade: %.60s\n", in);
        return 1;
      }
    }
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
  }
  uint64_t t0 = ns(), end = t0 + (uint64_t)(secs * 1e9), t;
  size_t msgs = 0;
  for (int i = 0; i < n; i++) {
    sent[i] = ns();
    if (write(fds[i], out, outn) != (ssize_t)outn) return 1;
  }
  do {
    struct epoll_event ev[256];
    int k = epoll_wait(ep, ev, 256, 1000);
    if (k == 0) {
      fprintf(stderr, "stalled\n");
      return 1;
    }
    t = ns();
    for (int j = 0; j < k; j++) {
      int i = ev[j].data.u32;
      ssize_t r = read(fds[i], in, sizeof in);
      if (r <= 0) {
        fprintf(stderr, "closed by server: %s\n", strerror(errno));
        return 1;
      }
      got[i] += r;
      if (got[i] > inn) {
        fprintf(stderr, "too much echoed\n");
        return 1;
      }
      if (got[i] == inn) {
        if ((ws ? in[r - 1] : in[0]) != 'x') {
          fprintf(stderr, "wrong echo\n");
          return 1;
        }
        got[i] = 0;
        msgs++;
        t = ns();
        if (nlat < caplat) lat[nlat++] = (uint32_t)((t - sent[i]) / 100);
        sent[i] = t;
        if (write(fds[i], out, outn) != (ssize_t)outn) return 1;
      }
    }
  } while (t < end);
  double el = (ns() - t0) / 1e9;
  qsort(lat, nlat, sizeof *lat, cmp);
  printf("%s %zu %.3f %.1f p50_us=%.1f p99_us=%.1f\n", ws ? "ws_echo" : "tcp_echo", msgs, el,
         msgs / el, lat[nlat / 2] / 10.0, lat[nlat * 99 / 100] / 10.0);
  return 0;
}
