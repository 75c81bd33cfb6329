/*-------------------------------------------------------------------------
 *
 * loop.c
 *	  The one wait of a courier.
 *
 * PostgreSQL's WaitEventSet holds the latch, the postmaster's death and one
 * epoll descriptor of ours, which holds the sockets of libcurl (and of whoever
 * else brings some).  curl_multi_poll is not used, since a latch cannot wake
 * it.
 *
 * epoll_ctl is the dear part: a library announces a wish several times a
 * request, mostly the one that it had before.  So a wish is only noted, and
 * just before a wait the differences are applied.  A socket that nobody wants
 * any more stays registered: usually the next request wants it again.  If an
 * event comes for it all the same (the server has closed an idle connection),
 * it is taken out.
 *
 * Must never: throw while a library's frames are on the stack; run a library's
 * code with signals unblocked, since it may start a thread, and a thread
 * inherits the mask: PostgreSQL's handlers must not run in it.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "workers/loop.h"

#define LOOP_EVENTS 128

typedef struct Socket
{
	uint32		want;			/* wished */
	uint32		have;			/* registered; 0 = not in the set */
	bool		in_set;
	bool		dirty;			/* stands in the list of changes */
	bool		keep;			/* crm_loop_forget comes before its close */
	CrmSocketReady ready;
} Socket;

static WaitEventSet *wait_set = NULL;
static int	epoll_fd = -1;

/* by descriptor; malloc'd, since it grows inside call-backs */
static Socket *sockets = NULL;
static int	sockets_size = 0;
static int *changes = NULL;
static int	changes_count = 0;

static void apply_changes(void);
static int	serve(struct epoll_event *events, int count);

void
crm_loop_open(void)
{
	if (!AcquireExternalFD())
		ereport(FATAL,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("out of file descriptors for a worker's wait"),
				 errhint("Raise the limit of open files (ulimit -n) of the server.")));
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		ereport(FATAL,
				(errcode_for_socket_access(),
				 errmsg("could not make an epoll descriptor: %m")));

	wait_set = CreateWaitEventSet(TopMemoryContext, 3);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(wait_set, WL_SOCKET_READABLE, epoll_fd, NULL, NULL);
}

static bool
room_for(int fd)
{
	if (fd < 0)
		return false;
	if (fd >= sockets_size)
	{
		int			size = Max(fd + 1, Max(64, sockets_size * 2));
		Socket	   *more = realloc(sockets, size * sizeof(Socket));
		int		   *list;

		if (more == NULL)
			return false;
		sockets = more;
		list = realloc(changes, size * sizeof(int));
		if (list == NULL)
			return false;
		changes = list;
		memset(sockets + sockets_size, 0, (size - sockets_size) * sizeof(Socket));
		sockets_size = size;
	}
	return true;
}

bool
crm_loop_keep(int fd)
{
	if (!room_for(fd))
		return false;
	sockets[fd].keep = true;
	return true;
}

bool
crm_loop_want(int fd, uint32 events, CrmSocketReady ready)
{
	Socket	   *s;

	if (!room_for(fd))
		return false;
	s = &sockets[fd];
	if (events == 0 && !s->keep)
	{
		/* a resolver's pipe, say: it is closed behind our back */
		crm_loop_forget(fd);
		return true;
	}
	s->want = events;
	s->ready = ready;
	if (!s->dirty && events != 0 && events != s->have)
	{
		s->dirty = true;
		changes[changes_count++] = fd;
	}
	return true;
}

void
crm_loop_forget(int fd)
{
	if (fd < 0 || fd >= sockets_size)
		return;
	/* taken out by hand: a child or a dup could keep a closed one in the set */
	if (sockets[fd].in_set)
		(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
	sockets[fd].want = sockets[fd].have = 0;
	sockets[fd].in_set = sockets[fd].keep = false;
}

static void
apply_changes(void)
{
	for (int i = 0; i < changes_count; i++)
	{
		int			fd = changes[i];
		Socket	   *s = &sockets[fd];
		struct epoll_event event = {0};

		s->dirty = false;
		if (s->want == 0 || s->want == s->have)
			continue;
		event.events = s->want;
		event.data.fd = fd;
		if (epoll_ctl(epoll_fd, s->in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) != 0 &&
			epoll_ctl(epoll_fd, s->in_set ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) != 0)
		{
			/* not a socket that can be waited for: the request's time-out ends it */
			s->in_set = false;
			s->have = 0;
			continue;
		}
		s->in_set = true;
		s->have = s->want;
	}
	changes_count = 0;
}

static int
serve(struct epoll_event *events, int count)
{
	sigset_t	all;
	sigset_t	before;

	if (count <= 0)
		return 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (int i = 0; i < count; i++)
	{
		int			fd = events[i].data.fd;

		/* an earlier event of this round may have closed or dropped it */
		if (fd >= sockets_size || !sockets[fd].in_set)
			continue;
		if (sockets[fd].want == 0)
		{
			(void) epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
			sockets[fd].in_set = false;
			sockets[fd].have = 0;
			continue;
		}
		sockets[fd].ready(fd, events[i].events);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return count;
}

int
crm_loop_serve(long timeout_ms)
{
	struct epoll_event events[LOOP_EVENTS];
	WaitEvent	happened[3];
	int			count;

	apply_changes();
	count = epoll_wait(epoll_fd, events, LOOP_EVENTS, 0);
	if (count > 0)
		return serve(events, count);
	if (timeout_ms == 0)
		return 0;

	count = WaitEventSetWait(wait_set, timeout_ms, happened, lengthof(happened),
							 PG_WAIT_EXTENSION);
	for (int i = 0; i < count; i++)
	{
		if (happened[i].events & WL_SOCKET_READABLE)
			return serve(events, epoll_wait(epoll_fd, events, LOOP_EVENTS, 0));
	}
	return 0;
}
