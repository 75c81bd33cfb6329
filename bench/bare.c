/*-------------------------------------------------------------------------
 *
 * bare.c
 *	  The limit that the courier is measured against: nothing but libcurl's
 *	  multi interface, sending N small POSTs, or letters of BYTES bytes, over
 *	  kept connections.
 *
 *	  bare URL N K [SLOW_URL EVERY]
 *	  bare smtp://HOST:PORT/NAME N K '' BYTES
 *
 * Handles are reused and never reset.  Every EVERY-th request goes to SLOW_URL
 * if given.  Prints requests a second.
 *
 *-------------------------------------------------------------------------
 */
#include <curl/curl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

typedef struct Slot
{
	CURL	   *easy;
	char		body[128];
	size_t		offset;			/* SMTP: of the letter */
} Slot;

static long sent = 0;
static long failed = 0;
static const char *url;
static const char *slow_url;
static long every = 0;
static char *letter = NULL;		/* SMTP */
static size_t letter_size;

static double
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static size_t
swallow(char *data, size_t size, size_t count, void *arg)
{
	(void) data;
	(void) arg;
	return size * count;
}

static size_t
read_letter(char *data, size_t size, size_t count, void *arg)
{
	Slot	   *slot = arg;
	size_t		n = letter_size - slot->offset;

	if (n > size * count)
		n = size * count;
	memcpy(data, letter + slot->offset, n);
	slot->offset += n;
	return n;
}

static void
launch(CURLM *multi, Slot *slot)
{
	int			length;

	sent++;
	if (letter != NULL)
	{
		slot->offset = 0;
		curl_multi_add_handle(multi, slot->easy);
		return;
	}
	length = snprintf(slot->body, sizeof(slot->body),
					  "%ld Order 4711 has left the plant, 24.5 t of cement, plate A123BC77", sent);
	curl_easy_setopt(slot->easy, CURLOPT_URL, every > 0 && sent % every == 0 ? slow_url : url);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->body);
	curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE, (long) length);
	curl_multi_add_handle(multi, slot->easy);
}

int
main(int argc, char **argv)
{
	CURLM	   *multi;
	struct curl_slist *headers = NULL;
	struct curl_slist *recipients = NULL;
	struct rlimit limit;
	long		total;
	long		done = 0;
	int			k;
	int			running;
	double		start;

	if (argc < 4)
	{
		fprintf(stderr, "usage: bare URL N K [SLOW_URL EVERY]\n");
		return 2;
	}
	url = argv[1];
	total = atol(argv[2]);
	k = atoi(argv[3]);
	if (argc > 5)
	{
		slow_url = argv[4];
		every = atol(argv[5]);
	}
	if (strncmp(url, "smtp:", 5) == 0)
	{
		letter_size = every;
		letter = malloc(letter_size + 1);
		for (size_t i = 0; i < letter_size; i++)
			letter[i] = i % 78 == 76 ? '\r' : i % 78 == 77 ? '\n' : 'x';
		recipients = curl_slist_append(recipients, "<client@crm.test>");
	}
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);

	curl_global_init(CURL_GLOBAL_ALL);
	multi = curl_multi_init();
	curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long) k);
	headers = curl_slist_append(headers, "Content-Type: text/plain");
	start = now();
	for (int i = 0; i < k && sent < total; i++)
	{
		Slot	   *slot = calloc(1, sizeof(Slot));

		slot->easy = curl_easy_init();
		curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot);
		curl_easy_setopt(slot->easy, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(slot->easy, CURLOPT_PROXY, "");
		if (letter != NULL)
		{
			curl_easy_setopt(slot->easy, CURLOPT_URL, url);
			curl_easy_setopt(slot->easy, CURLOPT_MAIL_FROM, "<plant@crm.test>");
			curl_easy_setopt(slot->easy, CURLOPT_MAIL_RCPT, recipients);
			curl_easy_setopt(slot->easy, CURLOPT_UPLOAD, 1L);
			curl_easy_setopt(slot->easy, CURLOPT_READFUNCTION, read_letter);
			curl_easy_setopt(slot->easy, CURLOPT_READDATA, slot);
		}
		else
		{
			curl_easy_setopt(slot->easy, CURLOPT_POST, 1L);
			curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, headers);
		}
		curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, swallow);
		launch(multi, slot);
	}
	while (done < total)
	{
		CURLMsg    *message;
		int			left;

		curl_multi_perform(multi, &running);
		while ((message = curl_multi_info_read(multi, &left)) != NULL)
		{
			Slot	   *slot;

			if (message->msg != CURLMSG_DONE)
				continue;
			if (message->data.result != CURLE_OK)
				failed++;
			done++;
			curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **) &slot);
			curl_multi_remove_handle(multi, slot->easy);
			if (sent < total)
				launch(multi, slot);
		}
		if (done < total)
			curl_multi_poll(multi, NULL, 0, 1000, NULL);
	}
	printf("%.0f\n", total / (now() - start));
	if (failed > 0)
		fprintf(stderr, "bare: %ld failed\n", failed);
	return failed > 0;
}
