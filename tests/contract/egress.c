/* Preloaded into every process of a test: refuses connections that leave this machine, and writes them down.
   Catches what the interpreter's audit hooks miss: libraries in C, and the event loop's own connect. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void note(const char *kind, const char *what) {
    const char *path = getenv("EGRESS_LOG");
    if (path == NULL) return;
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) return;
    dprintf(file, "%s %s\n", kind, what);
    close(file);
}

static int leaves(const struct sockaddr *address, char *text, socklen_t size) {
    if (address == NULL) return 0;
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &four->sin_addr, text, size);
        return (ntohl(four->sin_addr.s_addr) >> 24) != 127;
    }
    if (address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &six->sin6_addr, text, size);
        return !IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
    }
    return 0;
}

int connect(int file, const struct sockaddr *address, socklen_t length) {
    static int (*real)(int, const struct sockaddr *, socklen_t);
    char text[INET6_ADDRSTRLEN] = "?";
    if (real == NULL) real = dlsym(RTLD_NEXT, "connect");
    if (leaves(address, text, sizeof text)) {
        note("connect", text);
        errno = ENETUNREACH;
        return -1;
    }
    return real(file, address, length);
}

ssize_t sendto(int file, const void *data, size_t size, int flags, const struct sockaddr *address, socklen_t length) {
    static ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    char text[INET6_ADDRSTRLEN] = "?";
    if (real == NULL) real = dlsym(RTLD_NEXT, "sendto");
    if (leaves(address, text, sizeof text)) {
        note("sendto", text);
        errno = ENETUNREACH;
        return -1;
    }
    return real(file, data, size, flags, address, length);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (real == NULL) real = dlsym(RTLD_NEXT, "getaddrinfo");
    if (node != NULL && strcmp(node, "localhost") != 0 && strspn(node, "0123456789abcdef.:") != strlen(node)) {
        note("getaddrinfo", node);
        return EAI_NONAME;
    }
    return real(node, service, hints, result);
}
