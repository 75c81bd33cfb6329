/*-------------------------------------------------------------------------
 *
 * transfer.c
 *	  libcurl's multi handle in the one wait: start, serve, finish.
 *
 * Easy handles are pooled and never reset: what is the same for every request
 * is set once, a transport sets the rest (a fresh handle costs 5 %).  A handle
 * that a transport has taken over for a conversation of its own (SMTP) stays in
 * the multi handle, since it owns the connection, and is never pooled.
 *
 * Must never: throw or palloc in a call-back (libcurl's frames are on the
 * stack); run libcurl where it may start a resolver's thread with signals
 * unblocked; wait in any other place than the loop.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>
#include <sys/resource.h>

#include "miscadmin.h"
#include "storage/fd.h"

#include "workers/loop.h"
#include "workers/transport.h"
#include "workers/worker.h"

#define BUDGET_MAX		2048	/* connections, idle ones included */
#define HANDLES_IDLE	256		/* easy handles kept */

static CURLM *multi = NULL;
static CrmHandle *idle_handles = NULL;
static int	idle_handle_count = 0;
static int64 timer_at = -1;		/* µs; -1 = none */
static bool account_fds = false;
static dlist_head ended = DLIST_STATIC_INIT(ended); /* by a transport itself */

static int	on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp);
static int	on_timer(CURLM *m, long timeout_ms, void *userp);
static void on_ready(int fd, uint32 events);
static bool on_opened(int fd);
static void on_closing(int fd);
static void on_departed(CrmTransfer *transfer);

static const CrmCarrier carrier = {
	.opened = on_opened,
	.closing = on_closing,
	.departed = on_departed
};

/*
 * How many connections this process may have.  Returns that number.
 */
static int
open_files_budget(void)
{
	struct rlimit limit;
	int			budget;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		limit.rlim_cur = limit.rlim_max = 1024;
	if (limit.rlim_cur < limit.rlim_max)
	{
		/* fd.c stays within max_safe_fds, so what is above is ours */
		rlim_t		wish = (rlim_t) max_safe_fds + BUDGET_MAX + 128;

		if (limit.rlim_cur < wish)
		{
			limit.rlim_cur = Min(wish, limit.rlim_max);
			(void) setrlimit(RLIMIT_NOFILE, &limit);
			(void) getrlimit(RLIMIT_NOFILE, &limit);
		}
	}
	budget = (int) Min(limit.rlim_cur, 1000000) - max_safe_fds - 64;
	if (budget < max_safe_fds / 3)
	{
		/* then they share fd.c's files, and must be counted there */
		account_fds = true;
		budget = max_safe_fds / 3;
	}
	return Max(4, Min(budget, BUDGET_MAX));
}

int
crm_transfer_open(void)
{
	int			budget = open_files_budget();

	crm_pg_open();
	/* libcurl's own memory, never palloc: a resolver's thread allocates too */
	if (curl_global_init(CURL_GLOBAL_ALL) != CURLE_OK ||
		(multi = curl_multi_init()) == NULL)
		ereport(FATAL,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("could not start libcurl")));

	curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
	curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
	curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	curl_multi_setopt(multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long) budget);
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) budget);
	return budget;
}

static CrmHandle *
handle_get(void)
{
	CrmHandle  *handle = idle_handles;

	if (handle == NULL)
		return crm_easy_new(&carrier);
	idle_handles = handle->next;
	idle_handle_count--;
	return handle;
}

static void
handle_put(CrmHandle *handle)
{
	handle->transfer = NULL;
	if (idle_handle_count >= HANDLES_IDLE)
	{
		crm_easy_drop(handle);
		return;
	}
	handle->next = idle_handles;
	idle_handles = handle;
	idle_handle_count++;
}

/*
 * Give a transfer to libcurl, or to a connection that its transport keeps.
 * False: it ended at once, error says why.
 */
bool
crm_transfer_start(CrmTransfer *transfer)
{
	CrmHandle  *handle;

	transfer->started_us = crm_worker_us();
	if (transfer->error[0] != '\0')
		return false;
	if (transfer->transport->resume != NULL && transfer->transport->resume(transfer))
		return true;
	if (transfer->error[0] != '\0')
		return false;
	handle = transfer->transport->connected != NULL || transfer->transport->resolved != NULL ?
		crm_easy_new(&carrier) : handle_get();
	if (handle == NULL)
	{
		crm_transfer_fail(transfer, "broken: out of memory");
		return false;
	}
	if (!crm_easy_arm(handle, transfer))
		return false;
	if (curl_multi_add_handle(multi, handle->easy) != CURLM_OK)
	{
		crm_transfer_fail(transfer, "broken: libcurl did not take the request");
		return false;
	}
	return true;
}

/*
 * The next transfer that has ended, or NULL.  Its handle is free again.
 */
CrmTransfer *
crm_transfer_finished(void)
{
	CURLMsg    *message;
	int			left;

	for (;;)
	{
		CrmHandle  *handle = NULL;
		CrmTransfer *t;
		CURLcode	code;
		CURL	   *easy;

		if (!dlist_is_empty(&ended))
		{
			t = dlist_container(CrmTransfer, node, dlist_pop_head_node(&ended));
			t->elapsed_ms = (int) ((crm_worker_us() - t->started_us) / 1000);
			return t;
		}
		if ((message = curl_multi_info_read(multi, &left)) == NULL)
			return NULL;
		if (message->msg != CURLMSG_DONE)
			continue;
		code = message->data.result;
		easy = message->easy_handle;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **) &handle);
		t = handle->transfer;
		/* a handle that its transport has taken over needs nothing here */
		if (t == NULL)
			continue;
		if (code == CURLE_OK && t->transport->connected != NULL)
		{
			t->transport->connected(t, handle);
			continue;
		}
		if (t->transport->resolved != NULL)
		{
			bool		goes_on;

			/* a library of its own begins here: with signals blocked, as in the loop */
			sigset_t	all;
			sigset_t	before;

			sigfillset(&all);
			pthread_sigmask(SIG_SETMASK, &all, &before);
			goes_on = t->transport->resolved(t, handle, code);
			pthread_sigmask(SIG_SETMASK, &before, NULL);
			t->handle = NULL;
			crm_transfer_leave(handle);
			if (goes_on)
				continue;
			t->elapsed_ms = (int) ((crm_worker_us() - t->started_us) / 1000);
			return t;
		}
		t->elapsed_ms = (int) ((crm_worker_us() - t->started_us) / 1000);
		t->transport->finish(t, easy, code);
		t->handle = NULL;
		if (t->transport->connected != NULL)
			crm_transfer_leave(handle);
		else
		{
			curl_multi_remove_handle(multi, easy);
			handle_put(handle);
		}
		return t;
	}
}

/*
 * A transport is done with the handle that it has taken over: its connection
 * is closed without another word.
 */
void
crm_transfer_leave(CrmHandle *handle)
{
	curl_multi_remove_handle(multi, handle->easy);
	crm_easy_drop(handle);
}

/*
 * A transport has ended a transfer by itself.
 */
void
crm_transfer_done(CrmTransfer *transfer)
{
	transfer->handle = NULL;
	dlist_push_tail(&ended, &transfer->node);
}

/*
 * Milliseconds until crm_transfer_kick is due, -1 = it is not.
 */
long
crm_transfer_wait_ms(void)
{
	int64		at = crm_smtp_deadline();
	int64		pg_at = crm_pg_deadline();
	int64		left;

	if (!dlist_is_empty(&ended))
		return 0;
	if (at < 0 || (pg_at >= 0 && pg_at < at))
		at = pg_at;
	if (at < 0 || (timer_at >= 0 && timer_at < at))
		at = timer_at;
	if (at < 0)
		return -1;
	left = at - crm_worker_us();
	return left <= 0 ? 0 : (long) ((left + 999) / 1000);
}

/*
 * Let libcurl do what its timer is for; also starts what was added.
 */
void
crm_transfer_kick(void)
{
	sigset_t	all;
	sigset_t	before;
	int64		now = crm_worker_us();
	int			running;

	crm_smtp_expire(now);
	crm_pg_expire(now);
	if (timer_at < 0 || now < timer_at)
		return;
	timer_at = -1;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- call-backs: libcurl's frames are on the stack, nothing may throw ---- */

static void
on_ready(int fd, uint32 events)
{
	int			bits = 0;
	int			running;

	if (events & EPOLLIN)
		bits |= CURL_CSELECT_IN;
	if (events & EPOLLOUT)
		bits |= CURL_CSELECT_OUT;
	if (events & (EPOLLERR | EPOLLHUP))
		bits |= CURL_CSELECT_ERR;
	curl_multi_socket_action(multi, fd, bits, &running);
}

static int
on_socket(CURL *easy, curl_socket_t fd, int what, void *userp, void *socketp)
{
	uint32		want = 0;

	if (what == CURL_POLL_IN || what == CURL_POLL_INOUT)
		want |= EPOLLIN;
	if (what == CURL_POLL_OUT || what == CURL_POLL_INOUT)
		want |= EPOLLOUT;
	/* without memory for it the request ends by its time-out */
	(void) crm_loop_want(fd, want, on_ready);
	return 0;
}

static int
on_timer(CURLM *m, long timeout_ms, void *userp)
{
	timer_at = timeout_ms < 0 ? -1 : crm_worker_us() + (int64) timeout_ms * 1000;
	return 0;
}

static bool
on_opened(int fd)
{
	if (!crm_loop_keep(fd))
		return false;
	if (account_fds)
		ReserveExternalFD();
	return true;
}

static void
on_closing(int fd)
{
	crm_loop_forget(fd);
	if (account_fds)
		ReleaseExternalFD();
}

static void
on_departed(CrmTransfer *transfer)
{
	crm_flight_mark(transfer->flight, transfer->lane->integration, transfer->ref);
}
