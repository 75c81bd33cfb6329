/*-------------------------------------------------------------------------
 *
 * smtp.c
 *	  Transport SMTP(S): one letter to one recipient a transfer; the session is
 *	  kept between transfers of one server.
 *
 * The request: url smtp(s)://host:port/our-name, headers "MAIL FROM: a@b" and
 * "RCPT TO: c@d", body the letter with CR LF line ends.  The reply's headers
 * are the lines of the server's last reply, its status that reply's code.
 *
 * A server takes a letter with the final dot, so that is when it may have
 * left: a session that breaks before is not "sent".
 *
 * Must never: throw or palloc; send a letter with a bare CR or LF, which some
 * servers read as an end of line and others do not (smuggling); fall back to
 * clear text where STARTTLS was asked for.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "workers/transport.h"

static const char *const smtp_schemes[] = {"smtp://", "smtps://", NULL};

/*
 * "MAIL FROM: <a@b>" -> a@b, in place.
 */
static char *
address_of(char *text)
{
	char	   *end;

	while (*text == ' ' || *text == '<')
		text++;
	end = text + strlen(text);
	while (end > text && (end[-1] == ' ' || end[-1] == '>'))
		*--end = '\0';
	return text;
}

static bool
is_address(const char *text)
{
	const char *at = strrchr(text, '@');

	/* libcurl 7.88 would pass a second command or parameter on */
	return at != NULL && at > text && at[1] != '\0' && strpbrk(text, "<> \t,;") == NULL &&
		strlen(text) <= 320;
}

/*
 * The letter's bytes.  Only when the last of them is handed over can the final
 * dot follow.
 */
static size_t
smtp_read(char *buffer, size_t size, size_t count, void *userp)
{
	CrmTransfer *t = userp;
	size_t		length = Min(size * count, t->body_length - t->read_offset);

	memcpy(buffer, t->body + t->read_offset, length);
	t->read_offset += length;
	if (t->read_offset >= t->body_length && !t->sent)
		crm_transfer_depart(t);
	return length;
}

static bool
smtp_prepare(CrmTransfer *transfer, CURL *easy)
{
	struct curl_slist *recipient = NULL;
	char	   *from = NULL;
	bool		is_tls = pg_strncasecmp(transfer->url, "smtps://", 8) == 0;

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
			recipient = h;
			h->data = address_of(h->data + 8);
		}
	}
	if (recipient == NULL || !is_address(recipient->data))
	{
		crm_transfer_fail(transfer, "refused: the recipient is not one address");
		return false;
	}
	if (from == NULL || (*from != '\0' && !is_address(from)))
	{
		crm_transfer_fail(transfer, "refused: the sender is not one address");
		return false;
	}
	recipient->next = NULL;

	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
	curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(easy, CURLOPT_READFUNCTION, smtp_read);
	curl_easy_setopt(easy, CURLOPT_READDATA, transfer);
	curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t) transfer->body_length);
	curl_easy_setopt(easy, CURLOPT_MAIL_FROM, from);
	curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, recipient);
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
	/* the answer to libcurl's QUIT after a refusal is not the reply */
	if (transfer->reply_ended && length >= 3 && memcmp(line, "221", 3) == 0)
		return true;
	if (transfer->reply_ended)
		transfer->head.length = 0;
	transfer->reply_ended = length > 3 && line[3] == ' ';
	return crm_buffer_append(&transfer->head, line, length, CRM_HEAD_LIMIT);
}

static void
smtp_departing(CrmTransfer *transfer)
{
	/* not yet: smtp_read knows */
}

static void
smtp_finish(CrmTransfer *transfer, CURL *easy, CURLcode code)
{
	long		status = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->status = (int) status;

	/* the list is ours and goes with the request */
	curl_easy_setopt(easy, CURLOPT_MAIL_RCPT, NULL);

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

const CrmTransport crm_smtp_transport = {
	.schemes = smtp_schemes,
	.protocols = "smtp,smtps",
	.prepare = smtp_prepare,
	.header = smtp_header,
	.departing = smtp_departing,
	.finish = smtp_finish
};
