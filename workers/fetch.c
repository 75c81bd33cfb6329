/*-------------------------------------------------------------------------
 *
 * fetch.c
 *	  One request carried in the calling session, for crm.integration_test().
 *
 * The couriers carry everything else.  This one is for a person who waits: it
 * is interruptible, takes at most ten seconds, and for SMTP logs in and says
 * NOOP instead of sending anything.  What a request may be, whom it may speak
 * to and how much is read stands in request.c, easy.c and address.c, for both.
 *
 * Must never: throw in a call-back of libcurl; call libcurl where it may start
 * a resolver's thread with signals unblocked, since the thread would run our
 * handlers; wait for such a thread, or for the other side's answer to a
 * farewell.  Handles are freed in every outcome.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#include "workers/transport.h"
#include "workers/worker.h"

#define FETCH_MIN_MS		100
#define FETCH_MAX_MS		10000
#define FETCH_SLICE_MS		50
#define FETCH_SOCKETS		16	/* at a time: libcurl tries a host's addresses */

static CURLM *multi = NULL;
static int	sockets[FETCH_SOCKETS];
static int	socket_count = 0;

static void start_libcurl(void);
static void carry(CrmTransfer *transfer);
static void leave(CrmTransfer *transfer);
static bool on_opened(int fd);
static void on_closing(int fd);
static void on_departed(CrmTransfer *transfer);

static const CrmCarrier carrier = {
	.opened = on_opened,
	.closing = on_closing,
	.departed = on_departed
};

PG_FUNCTION_INFO_V1(crm_integration_fetch);

/*
 * crm.integration_fetch(request, settings, max_reply_bytes, limit_ms)
 */
Datum
crm_integration_fetch(PG_FUNCTION_ARGS)
{
	CrmRequest *request = palloc0(sizeof(CrmRequest));
	CrmLane    *lane = palloc0(sizeof(CrmLane));
	CrmRequestType type = {NULL};
	CrmTransfer *transfer;
	Datum		result = (Datum) 0;
	TupleDesc	desc;
	Oid			reply_type;
	int			limit_ms = PG_ARGISNULL(3) ? FETCH_MAX_MS : PG_GETARG_INT32(3);

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	desc = crm_reply_desc(&reply_type);
	crm_request_read(&type, PG_GETARG_DATUM(0), request);
	request->ref_null = false;	/* a test needs no ref to be told from others */
	limit_ms = Min(Max(limit_ms, FETCH_MIN_MS), FETCH_MAX_MS);
	if (request->timeout_ms > 0)
		limit_ms = Min(limit_ms, Max(request->timeout_ms, FETCH_MIN_MS));
	request->timeout_ms = limit_ms;

	crm_options_parse(PG_ARGISNULL(1) ? NULL : PG_GETARG_JSONB_P(1), &lane->options);
	lane->options_version = 1;
	lane->max_reply_bytes = PG_ARGISNULL(2) ? 1024 * 1024 : Max(PG_GETARG_INT32(2), 0);

	start_libcurl();
	transfer = crm_transfer_new(lane, request);
	if (transfer == NULL)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory for a request"));
	PG_TRY();
	{
		transfer->probe = true;
		carry(transfer);
		result = crm_reply_datum(transfer, desc);
	}
	PG_FINALLY();
	{
		leave(transfer);
	}
	PG_END_TRY();

	PG_RETURN_DATUM(result);
}

static void
start_libcurl(void)
{
	static bool ready = false;
	sigset_t	all;
	sigset_t	before;
	CURLcode	code;

	if (ready)
		return;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	code = curl_global_init(CURL_GLOBAL_DEFAULT);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (code != CURLE_OK)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("libcurl could not be initialised: %s", curl_easy_strerror(code)));
	ready = true;
}

/*
 * Moves the bytes until the transfer has ended, whichever way.
 */
static void
carry(CrmTransfer *t)
{
	CrmHandle  *handle;
	sigset_t	all;
	sigset_t	before;

	t->started_us = crm_worker_us();
	if (t->error[0] != '\0')
		return;
	multi = curl_multi_init();
	handle = crm_easy_new(&carrier);
	if (multi == NULL || handle == NULL)
	{
		if (handle != NULL)
			crm_easy_drop(handle);
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory for a transfer"));
	}
	if (!crm_easy_arm(handle, t))
		return;
	if (curl_multi_add_handle(multi, handle->easy) != CURLM_OK)
		ereport(ERROR,
				errcode(ERRCODE_OUT_OF_MEMORY),
				errmsg("out of memory for a transfer"));
	sigfillset(&all);
	for (;;)
	{
		int			running = 0;
		int			left;
		CURLMcode	code;
		CURLMsg    *message;
		bool		goes_on;

		pthread_sigmask(SIG_SETMASK, &all, &before);
		code = curl_multi_perform(multi, &running);
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		CHECK_FOR_INTERRUPTS();
		t->elapsed_ms = (int) ((crm_worker_us() - t->started_us) / 1000);
		if (code != CURLM_OK)
			ereport(ERROR,
					errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
					errmsg("the transfer failed: %s", curl_multi_strerror(code)));
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
		{
			if (message->msg != CURLMSG_DONE)
				continue;
			if (t->transport->resolved == NULL)
			{
				t->transport->finish(t, handle->easy, message->data.result);
				return;
			}
			pthread_sigmask(SIG_SETMASK, &all, &before);
			goes_on = t->transport->resolved(t, handle, message->data.result);
			pthread_sigmask(SIG_SETMASK, &before, NULL);
			while (goes_on)
			{
				goes_on = !t->transport->step(t, FETCH_SLICE_MS);
				CHECK_FOR_INTERRUPTS();
				t->elapsed_ms = (int) ((crm_worker_us() - t->started_us) / 1000);
			}
			return;
		}
		if (running == 0)
		{
			crm_transfer_fail(t, "broken: libcurl gave no result");
			return;
		}
		(void) curl_multi_poll(multi, NULL, 0, FETCH_SLICE_MS, NULL);
	}
}

/*
 * Frees everything.  Nothing more is read: libcurl would wait for the answer to
 * an SMTP server's QUIT for two minutes.
 */
static void
leave(CrmTransfer *t)
{
	CrmHandle  *handle = t->handle;

	for (int i = 0; i < socket_count; i++)
		(void) shutdown(sockets[i], SHUT_RD);
	if (multi != NULL && handle != NULL)
		curl_multi_remove_handle(multi, handle->easy);
	crm_transfer_free(t);
	if (multi != NULL)
		curl_multi_cleanup(multi);
	multi = NULL;
	socket_count = 0;
}

/* ---- call-backs: libcurl's frames are on the stack, nothing may throw ---- */

static bool
on_opened(int fd)
{
	if (socket_count == FETCH_SOCKETS)
		return false;
	sockets[socket_count++] = fd;
	return true;
}

static void
on_closing(int fd)
{
	for (int i = 0; i < socket_count; i++)
	{
		if (sockets[i] == fd)
		{
			sockets[i] = sockets[--socket_count];
			break;
		}
	}
}

static void
on_departed(CrmTransfer *transfer)
{
	/* no flight file: a test is not asked for again after a crash */
}
