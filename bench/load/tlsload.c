/* Fixed load client for the TLS servers (OpenSSL, one thread, blocking).
 * usage: tlsload tls_handshake PORT SECONDS   full handshakes, one after the other
 *        tlsload tls_bulk PORT SECONDS        a GET of /big, again and again; counts bytes
 * prints: mode count seconds per_s */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void die(const char* what) {
  fprintf(stderr, "tlsload: %s failed\n", what);
  exit(1);
}

int main(int argc, char** argv) {
  if (argc != 4) return fprintf(stderr, "usage: tlsload MODE PORT SECONDS\n"), 2;
  int bulk = !strcmp(argv[1], "tls_bulk");
  double seconds = atof(argv[3]);
  SSL_CTX* context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  static char buffer[65536];
  const char request[] = "GET /big HTTP/1.0\r\n\r\n";
  double start = now();
  long count = 0;
  while (now() - start < seconds) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr*)&to, sizeof to) != 0) die("connect");
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) != 1) die("SSL_connect");
    if (bulk) {
      int n;
      if (SSL_write(ssl, request, sizeof request - 1) <= 0) die("SSL_write");
      while ((n = SSL_read(ssl, buffer, sizeof buffer)) > 0) {
        count += n;
        if (now() - start >= seconds) break;
      }
      if (n <= 0 && count == 0) die("SSL_read");
    } else {
      count++;
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
    close(fd);
  }
  double t = now() - start;
  printf("%s %ld %.6f %.1f\n", argv[1], count, t, count / t);
  return 0;
}
