// The lower bound in C: one write(2) for each message and connection, in a loop. It obeys the
// orders of serve.go.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int fds[1 << 16], count, listener, isWS;
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

static long long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void *acceptAll(void *unused) {
	// The receiver sends one fixed key, and does not check the answer to it.
	const char *head = isWS ? "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
				  "Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"
				: "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
	char request[4096];
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0)
			exit(1);
		if (read(fd, request, sizeof request) <= 0 || write(fd, head, strlen(head)) < 0) {
			close(fd);
			continue;
		}
		fcntl(fd, F_SETFL, O_NONBLOCK);
		pthread_mutex_lock(&mu);
		fds[count++] = fd;
		pthread_mutex_unlock(&mu);
	}
	return unused;
}

static void publish(long size) {
	static char frame[1 << 20];
	char *p = frame;
	if (isWS) {
		*p++ = (char)0x81;
		if (size < 126) {
			*p++ = (char)size;
		} else {
			*p++ = 126;
			*p++ = (char)(size >> 8);
			*p++ = (char)size;
		}
	} else {
		p = stpcpy(p, "data: ");
	}
	char *data = p;
	p += sprintf(p, "@%016llx", now());
	while (p < data + size)
		*p++ = 'x';
	if (!isWS)
		p = stpcpy(p, "\n\n");
	pthread_mutex_lock(&mu);
	for (int i = 0; i < count; i++) {
		for (char *from = frame; from < p;) {
			ssize_t n = write(fds[i], from, p - from);
			if (n > 0)
				from += n;
			else if (errno != EAGAIN)
				break;
		}
	}
	pthread_mutex_unlock(&mu);
}

static long field(const char *order, const char *name) {
	const char *at = strstr(order, name);
	return at ? atol(at + strlen(name)) : 0;
}

int main(int argc, char **argv) {
	isWS = argc > 1 && !strcmp(argv[1], "ws");
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof a;
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (void *)&a, size) || listen(listener, 4096) || getsockname(listener, (void *)&a, &size))
		return 1;
	pthread_t thread;
	pthread_create(&thread, NULL, acceptAll, NULL);
	printf("127.0.0.1:%d\n", ntohs(a.sin_port));
	fflush(stdout);
	char order[4096];
	while (fgets(order, sizeof order, stdin)) {
		long long began = now();
		long every = field(order, "\"Every\":"), messages = field(order, "\"Publish\":");
		for (long i = 0; i <= messages; i++) { // the last one has its time as well
			long long wait = began + i * every - now();
			if (every > 0 && wait > 0)
				nanosleep(&(struct timespec){wait / 1000000000, wait % 1000000000}, NULL);
			if (i < messages)
				publish(field(order, "\"Size\":"));
		}
		struct rusage r;
		getrusage(RUSAGE_SELF, &r);
		long long user = r.ru_utime.tv_sec * 1000000000LL + r.ru_utime.tv_usec * 1000LL;
		long long system = r.ru_stime.tv_sec * 1000000000LL + r.ru_stime.tv_usec * 1000LL;
		long pages = 0, total = 0;
		FILE *statm = fopen("/proc/self/statm", "r");
		if (statm) {
			if (fscanf(statm, "%ld %ld", &total, &pages) != 2)
				pages = 0;
			fclose(statm);
		}
		printf("{\"Began\":%lld,\"CPU\":%lld,\"User\":%lld,\"RSS\":%ld,\"Live\":0,\"Mallocs\":0}\n", began, user + system, user, pages * sysconf(_SC_PAGESIZE));
		fflush(stdout);
	}
	return 0;
}
