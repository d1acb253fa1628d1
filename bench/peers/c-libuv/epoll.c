/* The floor below libuv: raw epoll, level triggered, no HTTP parsing (counts blank lines at the end
 * of a read). usage: epoll http_server|tcp_echo PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
static const char RESP[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
int main(int c, char** v) {
  if (c < 3) return 2;
  signal(SIGPIPE, SIG_IGN);
  int http = !strcmp(v[1], "http_server"), one = 1,
      s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_port = htons(atoi(v[2])),
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(s, (void*)&a, sizeof a) || listen(s, 1024)) {
    perror("listen");
    return 1;
  }
  int ep = epoll_create1(0);
  struct epoll_event e = {.events = EPOLLIN, .data.fd = s}, ev[1024];
  epoll_ctl(ep, EPOLL_CTL_ADD, s, &e);
  static char b[65536];
  for (;;) {
    int k = epoll_wait(ep, ev, 1024, -1);
    for (int i = 0; i < k; i++) {
      int f = ev[i].data.fd;
      if (f == s) {
        int n = accept4(s, 0, 0, SOCK_NONBLOCK);
        if (n < 0) continue;
        setsockopt(n, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        e.events = EPOLLIN;
        e.data.fd = n;
        epoll_ctl(ep, EPOLL_CTL_ADD, n, &e);
        continue;
      }
      ssize_t n = read(f, b, sizeof b);
      if (n <= 0) {
        close(f);
        continue;
      }
      if (http) {
        if (n >= 4 && !memcmp(b + n - 4, "\r\n\r\n", 4)) {
          if (write(f, RESP, sizeof RESP - 1) < 0) close(f);
        }
      } else if (write(f, b, n) < 0)
        close(f);
    }
  }
}
