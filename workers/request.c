/*-------------------------------------------------------------------------
 *
 * request.c
 *	  A request copied out of a transaction's memory, looked through before a
 *	  byte of it leaves, and the bounded buffers for what comes back.
 *
 * Must never: throw, palloc, or keep a pointer into the claim's memory; let a
 * control character into a line that goes over the wire; leave a password
 * behind in memory that is used again.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "mb/pg_wchar.h"

#include "workers/transport.h"

#define TRANSFERS_IDLE	4096
#define KEEP_BYTES		4096	/* a pooled buffer bigger than this is freed */

static const CrmTransport *const transports[] = {
	&crm_http_transport,
	&crm_smtp_transport,
	&crm_pg_transport
};

static CrmTransfer *idle_transfers = NULL;	/* linked through handle */
static int	idle_transfer_count = 0;
static size_t reply_bytes = 0;	/* held in buffers of replies */

/*
 * Bytes of replies in memory.
 */
size_t
crm_transfer_bytes(void)
{
	return reply_bytes;
}

bool
crm_buffer_append(CrmBuffer *buffer, const char *data, size_t length, size_t limit)
{
	bool		fits = true;

	if (buffer->length + length > limit)
	{
		length = limit - Min(limit, buffer->length);
		fits = false;
	}
	if (buffer->length + length > buffer->size)
	{
		size_t		size = Max(buffer->size * 2, (size_t) 512);
		char	   *more;

		while (size < buffer->length + length)
			size *= 2;
		size = Min(size, Max(limit, buffer->length + length));
		more = realloc(buffer->data, size);
		if (more == NULL)
			return false;
		reply_bytes += size - buffer->size;
		buffer->data = more;
		buffer->size = size;
	}
	if (length > 0)
		memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	return fits;
}

static void
buffer_clear(CrmBuffer *buffer)
{
	buffer->length = 0;
	if (buffer->size > KEEP_BYTES)
	{
		reply_bytes -= buffer->size;
		free(buffer->data);
		buffer->data = NULL;
		buffer->size = 0;
	}
}

/*
 * Header-like text must be one line of text.
 */
static bool
is_clean(const CrmText *text)
{
	for (size_t i = 0; i < text->length; i++)
	{
		unsigned char c = text->data[i];

		if (c < 0x20 ? c != '\t' : c == 0x7f)
			return false;
	}
	return true;
}

static bool
is_clean_url(const CrmText *text)
{
	for (size_t i = 0; i < text->length; i++)
	{
		unsigned char c = text->data[i];

		if (c <= 0x20 || c == 0x7f)
			return false;
	}
	return text->length > 0 && text->length <= CRM_URL_LIMIT;
}

static bool
is_ascii(const CrmText *text)
{
	for (size_t i = 0; i < text->length; i++)
	{
		if ((unsigned char) text->data[i] >= 0x80)
			return false;
	}
	return true;
}

static bool
is_word(const CrmText *text)
{
	for (size_t i = 0; i < text->length; i++)
	{
		char		c = text->data[i];

		if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
			c != '-' && c != '_')
			return false;
	}
	return text->length > 0 && text->length <= 32;
}

/*
 * A transport with a method of its own takes no other, and nobody else takes
 * that one.
 */
static bool
method_fits(const CrmTransport *transport, const char *method)
{
	for (int i = 0; i < lengthof(transports); i++)
	{
		if (transports[i]->method != NULL &&
			(strcmp(transports[i]->method, method) == 0) != (transports[i] == transport))
			return false;
	}
	return true;
}

static const CrmTransport *
transport_for(const CrmText *url)
{
	for (int i = 0; i < lengthof(transports); i++)
	{
		for (const char *const *scheme = transports[i]->schemes; *scheme != NULL; scheme++)
		{
			size_t		length = strlen(*scheme);

			if (url->length > length && pg_strncasecmp(url->data, *scheme, length) == 0)
				return transports[i];
		}
	}
	return NULL;
}

static char *
put(char **at, const CrmText *text)
{
	char	   *start = *at;

	if (text->data == NULL)
		return NULL;
	memcpy(start, text->data, text->length);
	start[text->length] = '\0';
	*at += text->length + 1;

	return start;
}

/*
 * Copy a request out of the claim's memory.  A request that cannot be sent
 * comes back with its error set.  NULL: out of memory.
 */
CrmTransfer *
crm_transfer_new(CrmLane *lane, const CrmRequest *request)
{
	static const CrmText get = {"GET", 3};
	CrmTransfer *t;
	size_t		need;
	char	   *at;
	char	   *ascii = NULL;
	CrmText		url = request->url;
	int			count = Max(request->header_count, 0);
	const CrmText *method = request->method.data ? &request->method : &get;

	if (idle_transfers != NULL)
	{
		t = idle_transfers;
		idle_transfers = (CrmTransfer *) t->handle;
		idle_transfer_count--;
	}
	else if ((t = calloc(1, sizeof(CrmTransfer))) == NULL)
		return NULL;

	t->lane = lane;
	t->transport = NULL;
	t->ref = request->ref;
	t->ref_null = request->ref_null;
	t->flight = -1;
	t->handle = NULL;
	t->own = NULL;
	t->from = t->recipient = NULL;
	t->departures = 0;
	t->head_bytes = 0;
	t->probe = t->reply_ended = t->too_large = t->host_refused = t->sent = false;
	t->address[0] = t->error[0] = '\0';
	t->status = t->elapsed_ms = t->settle_tries = 0;
	t->started_us = 0;
	t->timeout_ms = request->timeout_ms <= 0 ? CRM_TIMEOUT_MS :
		Min(request->timeout_ms, CRM_TIMEOUT_MAX_MS);

	/* a host of another alphabet in the one form that the wire knows */
	if (url.data != NULL && is_clean_url(&url) && !is_ascii(&url) &&
		(GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII) &&
		(ascii = crm_url_ascii(url.data, url.length)) != NULL)
	{
		url.data = ascii;
		url.length = strlen(ascii);
	}

	need = (count + 1) * sizeof(struct curl_slist) +
		MAXALIGN(request->context.length) + method->length + url.length +
		request->username.length + request->password.length +
		request->body.length + 64;
	for (int i = 0; i < count; i++)
		need += request->headers[i].length + 1;
	if (need > t->block_size || t->block_size > need + 64 * 1024)
	{
		size_t		size = Max(need, (size_t) 1024);

		free(t->block);
		t->block_size = 0;
		t->block = malloc(size);
		if (t->block == NULL)
		{
			curl_free(ascii);
			crm_transfer_free(t);
			return NULL;
		}
		t->block_size = size;
	}

	/* the list and the context first: they want alignment */
	t->headers = count > 0 ? (struct curl_slist *) t->block : NULL;
	at = t->block + MAXALIGN(count * sizeof(struct curl_slist));
	t->context = NULL;
	t->context_size = request->context.length;
	if (request->context.data != NULL)
	{
		memcpy(at, request->context.data, request->context.length);
		t->context = at;
		at += MAXALIGN(request->context.length);
	}
	t->method = put(&at, method);
	t->url = put(&at, &url);
	curl_free(ascii);
	t->username = put(&at, &request->username);
	t->password = put(&at, &request->password);
	t->body = put(&at, &request->body);
	t->body_length = request->body.length;
	for (int i = 0; i < count; i++)
	{
		t->headers[i].data = put(&at, &request->headers[i]);
		t->headers[i].next = i + 1 < count ? &t->headers[i + 1] : NULL;
	}

	/* what is wrong with it */
	if (request->ref_null)
		crm_transfer_fail(t, "refused: the request has no ref");
	else if (url.data == NULL || url.length > CRM_URL_LIMIT || !is_clean_url(&request->url))
		crm_transfer_fail(t, "refused: the URL is missing, longer than %d bytes or has blanks or control characters",
						  CRM_URL_LIMIT);
	else if ((t->transport = transport_for(&request->url)) == NULL)
		crm_transfer_fail(t, "refused: the URL's scheme is not one of http, https, smtp, smtps, postgresql");
	else if (!is_ascii(&request->url) && ascii == NULL)
		crm_transfer_fail(t, "refused: the URL's host has letters that no internet name has");
	else if (!is_word(method))
		crm_transfer_fail(t, "refused: the method is not a word");
	else if (!method_fits(t->transport, t->method))
		crm_transfer_fail(t, "refused: the method does not belong to the URL's scheme");
	else if (request->header_count < 0)
		crm_transfer_fail(t, "refused: more than %d headers", CRM_HEADERS_LIMIT);
	else
	{
		for (int i = 0; i < count; i++)
		{
			if (request->headers[i].data == NULL || request->headers[i].length == 0 ||
				!is_clean(&request->headers[i]))
			{
				crm_transfer_fail(t, "refused: header %d is empty or has control characters",
								  i + 1);
				break;
			}
		}
	}
	return t;
}

void
crm_transfer_free(CrmTransfer *transfer)
{
	if (transfer->handle != NULL)
		crm_easy_drop(transfer->handle);
	transfer->handle = NULL;
	if (transfer->transport != NULL && transfer->transport->release != NULL)
		transfer->transport->release(transfer);
	/* a password must not lie about in memory longer than needed */
	if (transfer->block != NULL && transfer->password != NULL)
		explicit_bzero(transfer->password, strlen(transfer->password));
	transfer->password = NULL;
	buffer_clear(&transfer->head);
	buffer_clear(&transfer->reply);
	if (transfer->block_size > KEEP_BYTES)
	{
		free(transfer->block);
		transfer->block = NULL;
		transfer->block_size = 0;
	}
	if (idle_transfer_count >= TRANSFERS_IDLE)
	{
		reply_bytes -= transfer->head.size + transfer->reply.size;
		free(transfer->head.data);
		free(transfer->reply.data);
		free(transfer->block);
		free(transfer);
		return;
	}
	transfer->handle = (CrmHandle *) idle_transfers;
	idle_transfers = transfer;
	idle_transfer_count++;
}

/*
 * What a kept session belongs to: address, login, and what else the transport
 * tells by.  NULL: out of memory.
 */
char *
crm_session_key(const CrmTransfer *t, const char *more, size_t *length)
{
	const char *parts[] = {t->url, t->username, t->password, more};
	size_t		size = 0;
	char	   *key;
	char	   *at;

	for (int i = 0; i < lengthof(parts); i++)
		size += 2 + (parts[i] ? strlen(parts[i]) : 0);
	at = key = malloc(size);
	for (int i = 0; at != NULL && i < lengthof(parts); i++)
	{
		size_t		part = parts[i] ? strlen(parts[i]) : 0;

		*at++ = parts[i] ? '+' : '-';
		if (part > 0)
			memcpy(at, parts[i], part);
		at += part;
		*at++ = '\0';
	}
	*length = size;
	return key;
}

void
crm_session_key_free(char *key, size_t length)
{
	if (key != NULL)
		explicit_bzero(key, length);	/* it holds a password */
	free(key);
}
