/*-------------------------------------------------------------------------
 *
 * http.c
 *	  Transport HTTP(S): a request of a kind as options of an easy handle.
 *
 * Must never: throw or palloc (its functions run under libcurl or beside it);
 * follow a redirect (a kind sees the 3xx and decides).
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "workers/transport.h"

static const char *const http_schemes[] = {"http://", "https://", NULL};

/*
 * Bodies above a megabyte make libcurl ask "Expect: 100-continue" and wait a
 * second for servers that do not know it.
 */
static struct curl_slist no_expect = {"Expect:", NULL};

/*
 * "Name: value", "Name:" (takes libcurl's own away) or "Name;" (empty).  A line
 * that begins with a blank would continue the one before it.
 */
static bool
is_header(const char *line)
{
	size_t		length = strcspn(line, ":;");

	if (length == 0 || line[length] == '\0')
		return false;
	for (size_t i = 0; i < length; i++)
	{
		unsigned char c = line[i];

		if (c <= 0x20 || c >= 0x7f || strchr("()<>@,\\\"/[]?={}", c) != NULL)
			return false;
	}
	return true;
}

static bool
http_prepare(CrmTransfer *transfer, CURL *easy)
{
	const char *method = transfer->method;
	bool		has_body = transfer->body != NULL && transfer->body_length > 0;
	struct curl_slist *headers = transfer->headers;

	for (struct curl_slist *h = headers; h != NULL; h = h->next)
	{
		if (!is_header(h->data))
		{
			crm_transfer_fail(transfer, "refused: a header is not a name, a colon and a value");
			return false;
		}
	}
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, NULL);
	if (strcmp(method, "HEAD") == 0)
	{
		/* sets NOBODY, which HTTPGET and POST take back */
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	}
	else if (strcmp(method, "POST") == 0 || has_body)
	{
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS, has_body ? transfer->body : "");
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) transfer->body_length);
		if (strcmp(method, "POST") != 0)
			curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
	}
	else
	{
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
		if (strcmp(method, "GET") != 0)
			curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
	}

	if (transfer->body_length > 512 * 1024)
	{
		struct curl_slist *last = headers;

		if (last == NULL)
			headers = &no_expect;
		else
		{
			while (last->next != NULL)
				last = last->next;
			last->next = &no_expect;
		}
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
	return true;
}

/*
 * Keep the headers of the last response: a 100 or a proxy's comes before it.
 * The bound counts all of them, a server can send interim ones for ever.
 */
static bool
http_header(CrmTransfer *transfer, const char *line, size_t length)
{
	transfer->head_bytes += length;
	if (transfer->head_bytes > CRM_HEAD_LIMIT)
		return false;
	if (transfer->reply_ended && length >= 5 && memcmp(line, "HTTP/", 5) == 0)
	{
		transfer->head.length = 0;
		transfer->reply_ended = false;
	}
	if (line[0] == '\r' || line[0] == '\n')
		transfer->reply_ended = true;
	return crm_buffer_append(&transfer->head, line, length, CRM_HEAD_LIMIT);
}

static void
http_departing(CrmTransfer *transfer)
{
	crm_transfer_depart(transfer);
}

static void
http_finish(CrmTransfer *transfer, CURL *easy, CURLcode code)
{
	long		status = 0;

	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	transfer->status = (int) status;
	if (code != CURLE_OK)
		crm_transfer_fail_code(transfer, easy, code);
	else if (!transfer->reply_ended)
		/* libcurl takes a connection that ends among the headers for an end */
		crm_transfer_fail(transfer, "broken: the connection ended inside the reply's headers");
}

const CrmTransport crm_http_transport = {
	.schemes = http_schemes,
	.protocols = "http,https",
	.prepare = http_prepare,
	.header = http_header,
	.departing = http_departing,
	.finish = http_finish
};
