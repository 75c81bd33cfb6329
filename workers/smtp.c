/*-------------------------------------------------------------------------
 *
 * smtp.c
 *	  Transport SMTP(S): one letter to one recipient a transfer; the session is
 *	  kept between transfers of one integration.
 *
 * The request: url smtp(s)://host:port/our-name, headers "MAIL FROM: a@b" and
 * "RCPT TO: c@d", body the letter with CR LF line ends.  The reply's headers
 * are the lines of the server's last reply, its status that reply's code.
 *
 * A server takes a letter with the final dot, so that is when it may have
 * left: a session that breaks before is not "sent".
 *
 * libcurl connects, encrypts and logs in (CONNECT_ONLY); the conversation of
 * each letter is ours.  libcurl 7.88 would wait for the answer to the final dot
 * and to QUIT inside of one call, up to two minutes, with every other
 * integration behind it, and would give a clear connection that is kept to a
 * transfer that asked for STARTTLS.
 *
 * Must never: throw or palloc; wait; send a letter with a bare CR or LF, which
 * some servers read as an end of line and others do not (smuggling); fall back
 * to clear text where STARTTLS was asked for; give a session to another
 * integration, address or login.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "workers/loop.h"
#include "workers/transport.h"
#include "workers/worker.h"

#define OUT_BYTES		16384
#define LINE_BYTES		4096
#define TURN_BYTES		(256 * 1024)	/* written before others have their turn */
#define IDLE_US			INT64CONST(55000000)
#define IDLE_SESSIONS	64

typedef enum SmtpStep
{
	SMTP_IDLE,
	SMTP_RSET,
	SMTP_MAIL,
	SMTP_RCPT,
	SMTP_DATA,
	SMTP_LETTER,				/* its lines, up to the final dot */
	SMTP_VERDICT				/* the dot is out */
} SmtpStep;

/* a connection, logged in, in the middle of a conversation or waiting for one */
typedef struct SmtpSession
{
	dlist_node	node;
	CrmHandle  *handle;
	int			fd;
	CrmLane    *lane;
	int			options_version;
	char	   *key;			/* address and login, NUL between them */
	size_t		key_length;
	bool		size_known;		/* the server takes SIZE= */
	bool		dirty;			/* the last letter was refused half way */

	CrmTransfer *transfer;		/* NULL: nobody's */
	SmtpStep	step;
	bool		reused;
	bool		answered;		/* a reply came in this conversation */
	int64		idle_since_us;

	size_t		offset;			/* of the letter, what is in out or sent */
	char		out[OUT_BYTES];
	size_t		out_length;
	size_t		out_sent;
	char		line[LINE_BYTES];
	size_t		line_length;
} SmtpSession;

static dlist_head sessions = DLIST_STATIC_INIT(sessions);
static int	idle_count = 0;

static void pump(SmtpSession *s);
static void on_ready(int fd, uint32 events);

static const char *const smtp_schemes[] = {"smtp://", "smtps://", NULL};

/*
 * "MAIL FROM: <a@b>" -> a@b, in place.
 */
static char *
address_of(char *words)
{
	char	   *end;

	while (*words == ' ' || *words == '<')
		words++;
	end = words + strlen(words);

	while (end > words && (end[-1] == ' ' || end[-1] == '>'))
		*--end = '\0';
	return words;
}

static bool
is_address(const char *words)
{
	const char *at = strrchr(words, '@');

	/* nothing that ends the path and begins a parameter or another command */
	return at != NULL && at > words && at[1] != '\0' && strpbrk(words, "<> \t,;") == NULL &&
		strlen(words) <= 320;
}

static bool
is_ascii(const char *words)
{
	for (; *words != '\0'; words++)
	{
		if ((unsigned char) *words >= 0x80)
			return false;
	}
	return true;
}

/*
 * Sender, recipient and letter, once a transfer.  False: its error says why
 * they cannot be sent.
 */
static bool
open_envelope(CrmTransfer *transfer)
{
	char	   *from = NULL;
	char	   *recipient = NULL;

	if (transfer->recipient != NULL)
		return true;
	if (transfer->body == NULL || transfer->body_length == 0)
	{
		crm_transfer_fail(transfer, "refused: the letter is empty");
		return false;
	}
	for (size_t i = 0; i < transfer->body_length; i++)
	{
		char		c = transfer->body[i];

		if ((c == '\n' && (i == 0 || transfer->body[i - 1] != '\r')) ||
			(c == '\r' && (i + 1 == transfer->body_length || transfer->body[i + 1] != '\n')) ||
			c == '\0')
		{
			crm_transfer_fail(transfer, "refused: the letter has a bare CR, LF or NUL at byte %zu",
							  i + 1);
			return false;
		}
	}
	for (struct curl_slist *h = transfer->headers; h != NULL; h = h->next)
	{
		if (pg_strncasecmp(h->data, "MAIL FROM:", 10) == 0)
			from = address_of(h->data + 10);
		else if (pg_strncasecmp(h->data, "RCPT TO:", 8) == 0)
		{
			if (recipient != NULL)
			{
				crm_transfer_fail(transfer, "refused: more than one recipient in a transfer");
				return false;
			}
			recipient = address_of(h->data + 8);
		}
	}
	if (recipient == NULL || !is_address(recipient))
	{
		crm_transfer_fail(transfer, "refused: the recipient is not one address");
		return false;
	}
	if (from == NULL || (*from != '\0' && !is_address(from)))
	{
		crm_transfer_fail(transfer, "refused: the sender is not one address");
		return false;
	}
	if (!is_ascii(recipient) || !is_ascii(from))
	{
		crm_transfer_fail(transfer, "refused: an address has letters outside of ASCII: its domain must be in punycode, and no server is asked to take others before the @");
		return false;
	}
	transfer->from = from;
	transfer->recipient = recipient;
	return true;
}

static bool
smtp_prepare(CrmTransfer *transfer, CURL *easy)
{
	bool		is_tls = pg_strncasecmp(transfer->url, "smtps://", 8) == 0;

	if (!open_envelope(transfer))
		return false;
	if (transfer->probe)
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "NOOP");
	else
		curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_USE_SSL,
					 (long) (!is_tls && transfer->lane->options.starttls ?
							 CURLUSESSL_ALL : CURLUSESSL_NONE));
	return true;
}

/*
 * Keep the last reply, all lines of it.
 */
static bool
smtp_header(CrmTransfer *transfer, const char *line, size_t length)
{
	transfer->head_bytes += length;
	if (transfer->head_bytes > CRM_HEAD_LIMIT)
		return false;
	/* the answer to libcurl's QUIT after a probe is not the reply */
	if (transfer->probe && transfer->reply_ended && length >= 3 && memcmp(line, "221", 3) == 0)
		return true;
	if (length > 8 && pg_strncasecmp(line + 4, "SIZE", 4) == 0 && transfer->handle != NULL)
		transfer->handle->size_known = true;
	if (transfer->reply_ended)
		transfer->head.length = 0;
	transfer->reply_ended = length > 3 && line[3] == ' ';
	return crm_buffer_append(&transfer->head, line, length, CRM_HEAD_LIMIT);
}

static void
smtp_departing(CrmTransfer *transfer)
{
	/* not yet: fill_letter knows */
	if (transfer->probe)
		crm_transfer_depart(transfer);
}

static void
smtp_finish(CrmTransfer *transfer, CURL *easy, CURLcode code)
{
	long		status = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->status = (int) status;

	if (code == CURLE_OK)
		return;
	/* a refusal is a whole reply */
	if (status >= 400 && status < 600 && transfer->reply_ended && !transfer->host_refused)
	{
		switch (code)
		{
			case CURLE_SEND_ERROR:
			case CURLE_LOGIN_DENIED:
			case CURLE_WEIRD_SERVER_REPLY:
			case CURLE_REMOTE_ACCESS_DENIED:
			case CURLE_RECV_ERROR:
			case CURLE_UPLOAD_FAILED:
				return;
			default:
				break;
		}
	}
	crm_transfer_fail_code(transfer, easy, code);
}

/* ---- sessions ------------------------------------------------------------- */

static void
close_session(SmtpSession *s)
{
	if (s->transfer == NULL)
		idle_count--;
	dlist_delete(&s->node);
	crm_transfer_leave(s->handle);
	crm_session_key_free(s->key, s->key_length);
	free(s);
}

/*
 * A polite end, not waited for.
 */
static void
quit_session(SmtpSession *s)
{
	size_t		written;

	(void) curl_easy_send(s->handle->easy, "QUIT\r\n", 6, &written);
	close_session(s);
}

/*
 * The transfer's part is over; the session lives on if its next answer will be
 * to the next question.
 */
static void
end_transfer(SmtpSession *s, bool keep)
{
	CrmTransfer *t = s->transfer;

	s->transfer = NULL;
	s->step = SMTP_IDLE;
	s->idle_since_us = crm_worker_us();
	idle_count++;
	if (!keep || s->out_sent < s->out_length || s->line_length > 0)
		close_session(s);
	else if (idle_count > IDLE_SESSIONS)
		quit_session(s);
	else
		/* to hear that the server closes it */
		(void) crm_loop_want(s->fd, EPOLLIN, on_ready);
	crm_transfer_done(t);
}

/*
 * The connection is gone.  A kept one that the server had closed before we said
 * anything that counts: again, on another.
 */
static void
lose_session(SmtpSession *s)
{
	CrmTransfer *t = s->transfer;
	bool		again = t != NULL && s->reused && !s->answered && !t->sent;

	if (t == NULL)
	{
		close_session(s);
		return;
	}
	if (!again)
	{
		crm_transfer_fail(t, "broken: the connection ended before the server's answer");
		end_transfer(s, false);
		return;
	}
	t->handle = NULL;
	s->transfer = NULL;
	idle_count++;
	close_session(s);
	t->departures = 0;
	if (!crm_transfer_start(t))
	{
		if (t->handle != NULL)
			crm_easy_drop(t->handle);
		crm_transfer_done(t);
	}
}

static void
			say(SmtpSession *s, SmtpStep step, const char *format,...) pg_attribute_printf(3, 4);

static void
say(SmtpSession *s, SmtpStep step, const char *format,...)
{
	va_list		args;

	va_start(args, format);
	s->out_length = vsnprintf(s->out, sizeof(s->out), format, args);
	va_end(args);
	s->out_sent = 0;
	s->step = step;
}

static void
say_mail(SmtpSession *s)
{
	CrmTransfer *t = s->transfer;

	if (s->size_known)
		say(s, SMTP_MAIL, "MAIL FROM:<%s> SIZE=%zu\r\n", t->from, t->body_length);
	else
		say(s, SMTP_MAIL, "MAIL FROM:<%s>\r\n", t->from);
}

/*
 * The next piece of the letter, a dot before every line that begins with one,
 * and after the last line the dot that ends it all.
 */
static void
fill_letter(SmtpSession *s)
{
	CrmTransfer *t = s->transfer;
	size_t		length = 0;

	while (s->offset < t->body_length && length < OUT_BYTES - 8)
	{
		char		c = t->body[s->offset];

		if (c == '.' && (s->offset == 0 || t->body[s->offset - 1] == '\n'))
			s->out[length++] = '.';
		s->out[length++] = c;
		s->offset++;
	}
	if (s->offset == t->body_length)
	{
		const char *end = t->body[t->body_length - 1] == '\n' ? ".\r\n" : "\r\n.\r\n";

		memcpy(s->out + length, end, strlen(end));
		length += strlen(end);
		s->step = SMTP_VERDICT;
		crm_transfer_depart(t);
	}
	s->out_length = length;
	s->out_sent = 0;
}

static void
begin(SmtpSession *s, CrmTransfer *t, bool reused)
{
	s->transfer = t;
	s->reused = reused;
	s->answered = false;
	s->offset = 0;
	t->handle = s->handle;
	t->reply_ended = true;
	if (s->dirty)
		say(s, SMTP_RSET, "RSET\r\n");
	else
		say_mail(s);
	s->dirty = false;
}

/*
 * libcurl has logged in.
 */
static void
smtp_connected(CrmTransfer *t, CrmHandle *handle)
{
	SmtpSession *s = calloc(1, sizeof(SmtpSession));
	curl_socket_t fd = CURL_SOCKET_BAD;

	curl_easy_getinfo(handle->easy, CURLINFO_ACTIVESOCKET, &fd);
	if (s != NULL)
		s->key = crm_session_key(t, NULL, &s->key_length);
	if (s == NULL || s->key == NULL || fd == CURL_SOCKET_BAD)
	{
		crm_transfer_fail(t, "broken: the session could not be kept");
		free(s ? s->key : NULL);
		free(s);
		crm_transfer_leave(handle);
		crm_transfer_done(t);
		return;
	}
	handle->transfer = NULL;
	s->handle = handle;
	s->fd = fd;
	s->lane = t->lane;
	s->options_version = t->lane->options_version;
	s->size_known = handle->size_known;
	dlist_push_tail(&sessions, &s->node);
	begin(s, t, false);
	pump(s);
}

static bool
smtp_resume(CrmTransfer *t)
{
	dlist_iter	iter;
	SmtpSession *found = NULL;
	size_t		length;
	char	   *key;

	if (idle_count == 0)
		return false;
	if (!open_envelope(t) || (key = crm_session_key(t, NULL, &length)) == NULL)
		return false;
	dlist_foreach(iter, &sessions)
	{
		SmtpSession *s = dlist_container(SmtpSession, node, iter.cur);

		if (s->transfer == NULL && s->lane == t->lane &&
			s->options_version == t->lane->options_version &&
			s->key_length == length && memcmp(s->key, key, length) == 0)
			found = s;
	}
	crm_session_key_free(key, length);
	if (found == NULL)
		return false;
	idle_count--;
	begin(found, t, true);
	pump(found);
	return true;
}

/*
 * The verdict on this letter, or on a step before it.
 */
static void
judge(SmtpSession *s, int code)
{
	CrmTransfer *t = s->transfer;
	bool		taken = s->step == SMTP_VERDICT && code >= 200 && code < 300;

	t->status = code;
	if (!taken && (code < 400 || code > 599))
		crm_transfer_fail(t, "broken: the server answers %d where that has no meaning", code);
	s->dirty = !taken && s->step != SMTP_VERDICT;
	/* an answer in the middle of the letter leaves the two out of step */
	end_transfer(s, t->error[0] == '\0' && s->step != SMTP_LETTER && code != 421);
}

/*
 * A whole reply came.  False: the session is gone or nobody's.
 */
static bool
replied(SmtpSession *s, int code)
{
	bool		good = code >= 200 && code < 300;

	s->answered = true;
	switch (s->step)
	{
		case SMTP_RSET:
			if (!good)
			{
				s->answered = false;
				lose_session(s);
				return false;
			}
			say_mail(s);
			return true;
		case SMTP_MAIL:
			if (!good)
				break;
			say(s, SMTP_RCPT, "RCPT TO:<%s>\r\n", s->transfer->recipient);
			return true;
		case SMTP_RCPT:
			if (!good)
				break;
			say(s, SMTP_DATA, "DATA\r\n");
			return true;
		case SMTP_DATA:
			if (code != 354)
				break;
			s->step = SMTP_LETTER;
			fill_letter(s);
			return true;
		default:
			break;
	}
	judge(s, code);
	return false;
}

/*
 * Bytes of the server.  False: the session is gone or nobody's.
 */
static bool
hear(SmtpSession *s, const char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		CrmTransfer *t = s->transfer;
		const char *line = s->line;
		int			code;

		if (s->line_length == sizeof(s->line))
		{
			t->too_large = true;
			crm_transfer_fail(t, "too large: a line of the server exceeds %d bytes", LINE_BYTES);
			end_transfer(s, false);
			return false;
		}
		s->line[s->line_length++] = data[i];
		if (data[i] != '\n')
			continue;
		if (!smtp_header(t, line, s->line_length))
		{
			crm_transfer_fail(t, "too large: the reply's headers exceed %d bytes", CRM_HEAD_LIMIT);
			end_transfer(s, false);
			return false;
		}
		if (s->line_length < 4 || line[0] < '2' || line[0] > '5' ||
			line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9')
		{
			crm_transfer_fail(t, "broken: the server's answer is not SMTP");
			end_transfer(s, false);
			return false;
		}
		s->line_length = 0;
		if (line[3] == '-')
			continue;
		code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
		/* what follows was not asked for: end_transfer closes such a session */
		s->line_length = length - i - 1;
		if (s->line_length > 0 && s->step != SMTP_VERDICT && code < 400)
		{
			crm_transfer_fail(t, "broken: the server answers more than it was asked");
			end_transfer(s, false);
			return false;
		}
		return replied(s, code);
	}
	return true;
}

/*
 * Write and read what can be without waiting.
 */
static void
pump(SmtpSession *s)
{
	CURL	   *easy = s->handle->easy;
	size_t		turn = 0;

	for (;;)
	{
		char		data[4096];
		size_t		n = 0;
		CURLcode	code;
		bool		blocked = false;

		while (s->out_sent < s->out_length && !blocked)
		{
			code = curl_easy_send(easy, s->out + s->out_sent, s->out_length - s->out_sent, &n);
			if (code == CURLE_AGAIN || (code == CURLE_OK && n == 0))
				blocked = true;
			else if (code != CURLE_OK)
			{
				lose_session(s);
				return;
			}
			s->out_sent += n;
			turn += n;
			if (s->out_sent == s->out_length && s->step == SMTP_LETTER && turn < TURN_BYTES)
				fill_letter(s);
		}

		code = curl_easy_recv(easy, data, sizeof(data), &n);
		if (code == CURLE_AGAIN)
			break;
		/* nothing is to be said to a session that waits for work */
		if (code != CURLE_OK || n == 0 || s->transfer == NULL)
		{
			lose_session(s);
			return;
		}
		if (!hear(s, data, n))
			return;
	}
	if (s->out_sent == s->out_length && s->step == SMTP_LETTER)
		fill_letter(s);
	/* without memory for it the transfer ends by its time-out */
	(void) crm_loop_want(s->fd, s->out_sent < s->out_length ? EPOLLIN | EPOLLOUT : EPOLLIN, on_ready);
}

static void
on_ready(int fd, uint32 events)
{
	dlist_iter	iter;

	dlist_foreach(iter, &sessions)
	{
		SmtpSession *s = dlist_container(SmtpSession, node, iter.cur);

		if (s->fd == fd)
		{
			pump(s);
			return;
		}
	}
	crm_loop_want(fd, 0, on_ready);
}

static int64
deadline_of(const SmtpSession *s)
{
	return s->transfer != NULL ?
		s->transfer->started_us + (int64) s->transfer->timeout_ms * 1000 :
		s->idle_since_us + IDLE_US;
}

/*
 * When crm_smtp_expire is due next, in crm_worker_us(); -1 = never.
 */
int64
crm_smtp_deadline(void)
{
	dlist_iter	iter;
	int64		at = -1;

	dlist_foreach(iter, &sessions)
	{
		int64		mine = deadline_of(dlist_container(SmtpSession, node, iter.cur));

		if (at < 0 || mine < at)
			at = mine;
	}
	return at;
}

void
crm_smtp_expire(int64 now)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &sessions)
	{
		SmtpSession *s = dlist_container(SmtpSession, node, iter.cur);

		if (now < deadline_of(s))
			continue;
		if (s->transfer == NULL)
		{
			quit_session(s);
			continue;
		}
		crm_transfer_fail(s->transfer, "timeout: no whole reply within %d ms", s->transfer->timeout_ms);
		end_transfer(s, false);
	}
}

const CrmTransport crm_smtp_transport = {
	.schemes = smtp_schemes,
	.method = "SMTP",
	.protocols = "smtp,smtps",
	.prepare = smtp_prepare,
	.header = smtp_header,
	.departing = smtp_departing,
	.finish = smtp_finish,
	.connected = smtp_connected,
	.resume = smtp_resume
};
