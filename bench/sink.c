/*-------------------------------------------------------------------------
 *
 * sink.c
 *	  An HTTP or SMTP sink for benchmarks and tests: one thread, epoll,
 *	  keep-alive.
 *
 *	  sink PORT [DELAY_MS [LOG]]
 *	  sink PORT smtp
 *
 * Answers 200 to whatever has a Content-Length or no body.  What a request
 * asks for in its path is done with it:
 *	  /hang		no answer, the connection stays
 *	  /slow		the answer comes after DELAY_MS
 *	  /close	the connection is closed after the request, without a reply
 *	  /half		half a reply, then closed
 *	  /begin	the first bytes of a reply, then nothing, the connection stays
 *	  /stall	the body is not read, the connection stays; not counted
 *	  /deny		503 the first time that its id comes
 *	  /big		a reply of 20 MB
 *	  /count	the number of requests so far, which is not counted
 *	  anything else: 200 with the body "ok"
 * With LOG, the id of each counted request (its query or the digits of its
 * body up to 63 bytes) and the microsecond of its first byte are appended;
 * for /stall a line "part", id, microsecond.
 * As an SMTP server it takes every letter and keeps none.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define IN_SIZE 65536

typedef struct Conn
{
	int			fd;
	size_t		length;
	size_t		skip;			/* bytes of a long body still to come */
	int64_t		due;			/* when its slow answer goes, 0 = none */
	struct Conn *next;			/* slow ones, in order of due */
	bool		closed;
	bool		letter;			/* SMTP: between DATA and the final dot */
	char		in[IN_SIZE];
} Conn;

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static const char denied[] = "HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno";
static int	epoll;
static uint64_t requests = 0;
static int	delay_ms = 100;
static bool smtp = false;
static FILE *log_file = NULL;
static Conn *slow_first = NULL;
static Conn *slow_last = NULL;

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
answer(Conn *c, const char *data, size_t length)
{
	while (length > 0)
	{
		ssize_t		n = send(c->fd, data, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
		{
			usleep(100);
			continue;
		}
		if (n <= 0)
		{
			c->closed = true;
			return;
		}
		data += n;
		length -= n;
	}
}

static void
answer_big(Conn *c)
{
	static char block[65536];
	char		head[128];

	memset(block, 'x', sizeof(block));
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 20 * 1024 * 1024);
	answer(c, head, strlen(head));
	for (int i = 0; i < 320 && !c->closed; i++)
		answer(c, block, sizeof(block));
}

static void
note(const char *what, const char *request, size_t head, const char *body, size_t body_length)
{
	const char *end = memchr(request, '\r', head);
	const char *query = end ? memchr(request, '?', end - request) : NULL;
	char		id[64];
	size_t		n = 0;

	if (log_file == NULL)
		return;
	if (query != NULL)
	{
		for (query++; query < end && *query != ' ' && n < sizeof(id) - 1; query++)
			id[n++] = *query;
	}
	else
	{
		for (size_t i = 0; i < body_length && n < sizeof(id) - 1 && body[i] > ' '; i++)
			id[n++] = body[i];
	}
	id[n] = '\0';
	fprintf(log_file, "%s%s %lld\n", what, id, (long long) now_us());
	fflush(log_file);
}

/* whether this is the first request with its query to /deny; remembers a few */
static bool
first_time(const char *request, size_t head)
{
	static uint64_t known[1024];
	static int	count = 0;
	const char *end = memchr(request, '\r', head);
	uint64_t	hash = 14695981039346656037u;

	for (; end != NULL && request < end; request++)
		hash = (hash ^ (unsigned char) *request) * 1099511628211u;
	for (int i = 0; i < count; i++)
	{
		if (known[i] == hash)
			return false;
	}
	if (count < 1024)
		known[count++] = hash;
	return true;
}

static bool
path_is(const char *request, size_t head, const char *path)
{
	const char *blank = memchr(request, ' ', head);
	size_t		length = strlen(path);

	return blank != NULL && (size_t) (blank + 1 + length - request) < head &&
		memcmp(blank + 1, path, length) == 0;
}

/* SMTP; true: a line, or the rest of a letter, was taken out of the buffer */
static bool
take_line(Conn *c)
{
	char	   *end;
	const char *reply = "250 ok\r\n";
	size_t		here;

	if (c->letter)
	{
		end = memmem(c->in, c->length, "\r\n.\r\n", 5);
		if (end == NULL)
		{
			/* all but what may be the beginning of the end */
			if (c->length > 4)
			{
				memmove(c->in, c->in + c->length - 4, 4);
				c->length = 4;
			}
			return false;
		}
		here = end + 5 - c->in;
		c->letter = false;
		requests++;
		reply = "250 2.0.0 Ok: queued as 4711\r\n";
	}
	else
	{
		end = memmem(c->in, c->length, "\r\n", 2);
		if (end == NULL)
			return false;
		here = end + 2 - c->in;
		if (strncasecmp(c->in, "EHLO", 4) == 0)
			reply = "250-sink\r\n250 8BITMIME\r\n";
		else if (strncasecmp(c->in, "DATA", 4) == 0)
		{
			c->letter = true;
			reply = "354 go on\r\n";
		}
		else if (strncasecmp(c->in, "QUIT", 4) == 0)
		{
			c->closed = true;
			reply = "221 bye\r\n";
		}
	}
	answer(c, reply, strlen(reply));
	memmove(c->in, c->in + here, c->length - here);
	c->length -= here;
	return true;
}

/* true: a whole request was taken out of the buffer */
static bool
take(Conn *c)
{
	char	   *end;
	char	   *field;
	size_t		head;
	size_t		body = 0;
	size_t		here;

	if (smtp)
		return take_line(c);
	if (c->skip > 0)
	{
		size_t		n = c->skip < c->length ? c->skip : c->length;

		memmove(c->in, c->in + n, c->length - n);
		c->length -= n;
		c->skip -= n;
		if (c->skip > 0)
			return false;
		answer(c, ok, sizeof(ok) - 1);
		return true;
	}
	/* a TLS greeting: nobody here speaks it */
	if (c->length > 0 && c->in[0] == 0x16)
	{
		answer(c, "what?\r\n", 7);
		c->closed = true;
		return false;
	}
	end = memmem(c->in, c->length, "\r\n\r\n", 4);
	if (end == NULL)
		return false;
	head = end + 4 - c->in;
	*end = '\0';
	field = strcasestr(c->in, "\r\nContent-Length:");
	*end = '\r';
	if (field != NULL)
		body = strtoul(field + 17, NULL, 10);
	here = c->length - head < body ? c->length - head : body;
	if (path_is(c->in, head, "/stall"))
	{
		note("part ", c->in, head, "", 0);
		epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
		return false;
	}
	if (here < body && head + body <= IN_SIZE)
		return false;

	if (path_is(c->in, head, "/count"))
	{
		char		reply[128];
		char		number[32];

		snprintf(number, sizeof(number), "%llu", (unsigned long long) requests);
		snprintf(reply, sizeof(reply), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
				 strlen(number), number);
		answer(c, reply, strlen(reply));
	}
	else
	{
		requests++;
		note("", c->in, head, c->in + head, here);
		if (path_is(c->in, head, "/hang"))
			;
		else if (path_is(c->in, head, "/slow"))
		{
			c->due = now_us() + (int64_t) delay_ms * 1000;
			c->next = NULL;
			if (slow_last)
				slow_last->next = c;
			else
				slow_first = c;
			slow_last = c;
		}
		else if (path_is(c->in, head, "/close"))
			c->closed = true;
		else if (path_is(c->in, head, "/half"))
		{
			answer(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", 44);
			c->closed = true;
		}
		else if (path_is(c->in, head, "/begin"))
			answer(c, ok, sizeof(ok) - 2);
		else if (path_is(c->in, head, "/deny") && first_time(c->in, head))
			answer(c, denied, sizeof(denied) - 1);
		else if (path_is(c->in, head, "/big"))
			answer_big(c);
		else if (here < body)
			c->skip = body - here;
		else
			answer(c, ok, sizeof(ok) - 1);
	}
	here += head;
	memmove(c->in, c->in + here, c->length - here);
	c->length -= here;
	return true;
}

int
main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET};
	struct epoll_event event = {.events = EPOLLIN};
	struct epoll_event events[256];
	struct rlimit limit;
	int			listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int			on = 1;

	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (argc < 2)
	{
		fprintf(stderr, "usage: sink PORT [DELAY_MS [LOG]]\n");
		return 2;
	}
	if (argc > 2 && strcmp(argv[2], "smtp") == 0)
		smtp = true;
	else if (argc > 2)
		delay_ms = atoi(argv[2]);
	if (argc > 3 && (log_file = fopen(argv[3], "a")) == NULL)
	{
		perror(argv[3]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);

	address.sin_port = htons(atoi(argv[1]));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		listen(listener, 4096) != 0)
	{
		perror("sink");
		return 2;
	}
	event.data.ptr = NULL;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);

	for (;;)
	{
		int			timeout = -1;
		int			n;

		if (slow_first != NULL)
		{
			int64_t		left = slow_first->due - now_us();

			timeout = left <= 0 ? 0 : (int) (left / 1000) + 1;
		}
		n = epoll_wait(epoll, events, 256, timeout);
		for (int i = 0; i < n; i++)
		{
			Conn	   *c = events[i].data.ptr;

			if (c == NULL)
			{
				int			fd;

				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
				{
					c = calloc(1, sizeof(Conn));
					c->fd = fd;
					setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
					event.data.ptr = c;
					epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
					if (smtp)
						answer(c, "220 sink ESMTP\r\n", 16);
				}
				continue;
			}
			{
				ssize_t		got = recv(c->fd, c->in + c->length, IN_SIZE - c->length, 0);

				if (got > 0)
				{
					c->length += got;
					while (!c->closed && take(c))
						;
				}
				else if (got == 0 || errno != EAGAIN)
					c->closed = true;
			}
			if (c->closed)
			{
				/* a slow one is freed when its turn comes */
				close(c->fd);
				if (c->due == 0)
					free(c);
				else
					c->fd = -1;
			}
		}
		while (slow_first != NULL && slow_first->due <= now_us())
		{
			Conn	   *c = slow_first;

			slow_first = c->next;
			if (slow_first == NULL)
				slow_last = NULL;
			c->due = 0;
			if (c->fd < 0)
			{
				free(c);
				continue;
			}
			answer(c, ok, sizeof(ok) - 1);
			while (!c->closed && take(c))
				;
			if (c->closed)
			{
				close(c->fd);
				if (c->due == 0)
					free(c);
				else
					c->fd = -1;
			}
		}
	}
}
