/*-------------------------------------------------------------------------
 *
 * address.c
 *	  Who may be spoken to: a resolved address against an integration's list.
 *
 * The one place that decides, for couriers and for a session's own request,
 * when a connection is opened and again when a kept one is used.
 *
 * Must never: throw or palloc (it runs under libcurl's call-backs); read a URL
 * in another way than libcurl does.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <locale.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "workers/transport.h"

static bool
prefix_equal(const uint8 *a, const uint8 *b, int bits)
{
	int			whole = bits / 8;
	int			rest = bits % 8;

	if (memcmp(a, b, whole) != 0)
		return false;
	return rest == 0 || ((a[whole] ^ b[whole]) & (0xff << (8 - rest)) & 0xff) == 0;
}

/*
 * Does a list entry like 10.0.0.0/8, ::1 or 192.0.2.7 cover the address?
 */
static bool
entry_covers(const char *entry, int family, const uint8 *bytes)
{
	char text[	64];
	uint8		mine[16];
	const char *slash = strchr(entry, '/');
	size_t		length = slash ? (size_t) (slash - entry) : strlen(entry);
	int			width = family == AF_INET ? 32 : 128;
	int			bits = width;

	if (length >= sizeof(text))
		return false;
	memcpy(text, entry, length);
	text[		length] = '\0';

	if (inet_pton(family, text, mine) != 1)
		return false;
	if (slash != NULL)
	{
		char	   *end;
		long		n = strtol(slash + 1, &end, 10);

		if (*end != '\0' || end == slash + 1 || n < 0 || n > width)
			return false;
		bits = (int) n;
	}
	return prefix_equal(mine, bytes, bits);
}

/*
 * The URL's host in ASCII as libcurl will understand it, so that no other
 * reading of the same text decides.  Free with curl_free; NULL: none.
 */
static char *
url_host(const char *url)
{
	CURLU	   *parts = curl_url();
	char	   *host = NULL;

	if (parts != NULL && (curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
						  curl_url_get(parts, CURLUPART_HOST, &host, 0) != CURLUE_OK))
		host = NULL;
	curl_url_cleanup(parts);
	return host;
}

static bool
is_ascii(const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++)
	{
		if ((unsigned char) text[i] >= 0x80)
			return false;
	}
	return true;
}

/*
 * A URL whose host has letters of other alphabets, with that host in punycode;
 * the rest of it as libcurl writes it.  NULL: it has no such form.  Free with
 * curl_free.
 *
 * libidn2 reads the bytes in the locale's encoding, and that of a database may
 * be C: so the conversion is done here, under a locale of our own.
 */
char	   *
crm_url_ascii(const char *url, size_t length)
{
	static locale_t utf8 = (locale_t) 0;
	locale_t	before;
	CURLU	   *parts;
	char	   *text;
	char	   *result = NULL;

	if (utf8 == (locale_t) 0 && (utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0)) == (locale_t) 0)
		return NULL;
	text = strndup(url, length);

	parts = curl_url();
	if (text !=NULL && parts != NULL)
	{
		before = uselocale(utf8);
		if (curl_url_set(parts, CURLUPART_URL, text, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
			curl_url_get(parts, CURLUPART_URL, &result, CURLU_PUNYCODE) != CURLUE_OK)
			result = NULL;
		uselocale(before);
	}
	curl_url_cleanup(parts);
	free(text);
	return result;
}

/*
 * Is this entry of the list the name of the URL's host?
 */
static bool
entry_names(const char *entry, const char *host)
{
	char		url[320];
	char	   *ascii;
	char	   *name;
	bool		same;

	if (is_ascii(entry, strlen(entry)))
		return pg_strcasecmp(entry, host) == 0;
	snprintf(url, sizeof(url), "http://%s/", entry);
	ascii = crm_url_ascii(url, strlen(url));
	name = ascii ? url_host(ascii) : NULL;
	same = name != NULL && pg_strcasecmp(name, host) == 0;
	curl_free(name);
	curl_free(ascii);
	return same;
}

static bool
host_listed(const CrmOptions *options, const char *url)
{
	char	   *host = url_host(url);
	bool		listed = false;

	for (int i = 0; host != NULL && i < options->allow_count && !listed; i++)
		listed = entry_names(options->allow_hosts[i], host);
	curl_free(host);
	return listed;
}

/*
 * Not a place where a provider can be: this host, this wire, many hosts, the
 * services that hand out a machine's own credentials.
 */
static bool
is_odd_address(int family, const uint8 *b)
{
	static const uint8 metadata[16] = {0xfd, 0x00, 0x0e, 0xc2,[14] = 0x02,[15] = 0x54};

	if (family == AF_INET)
		return b[0] == 0 || (b[0] == 169 && b[1] == 254) || b[0] >= 224 ||
			(b[0] == 100 && b[1] == 100 && b[2] == 100 && b[3] == 200) ||
			(b[0] == 192 && b[1] == 0 && b[2] == 0);
	return (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) || b[0] == 0xff ||
		memcmp(b, &in6addr_any, 16) == 0 || memcmp(b, metadata, 16) == 0;
}

/*
 * Inside a plant's own network or this machine.
 */
static bool
is_private_address(int family, const uint8 *b)
{
	if (family == AF_INET)
		return b[0] == 10 || b[0] == 127 || (b[0] == 172 && (b[1] & 0xf0) == 16) ||
			(b[0] == 192 && b[1] == 168) || (b[0] == 100 && (b[1] & 0xc0) == 64);
	return (b[0] & 0xfe) == 0xfc || memcmp(b, &in6addr_loopback, 16) == 0;
}

/*
 * An IPv6 address that is only another way to write an IPv4 one (mapped,
 * compatible, NAT64, 6to4): that one, else NULL.
 */
static const uint8 *
inner_address(const uint8 *b)
{
	static const uint8 nat64[12] = {0x00, 0x64, 0xff, 0x9b};
	static const uint8 zeros[12] = {0};

	if (IN6_IS_ADDR_V4MAPPED((const struct in6_addr *) b) || memcmp(b, nat64, 12) == 0)
		return b + 12;
	if (b[0] == 0x20 && b[1] == 0x02)
		return b + 2;
	/* not :: and ::1 */
	if (memcmp(b, zeros, 12) == 0 && (b[12] || b[13] || b[14] || b[15] > 1))
		return b + 12;
	return NULL;
}

/*
 * The resolved address against the integration's list.  An entry is an
 * address, a network, or a host's name; a name allows what it resolves to, but
 * no private address (a name may be made to resolve to one).
 */
bool
crm_address_allowed(const CrmOptions *options, const char *url, int family, const void *bytes)
{
	const uint8 *b = bytes;
	const uint8 *inner = family == AF_INET6 ? inner_address(b) : NULL;

	if (inner != NULL)
	{
		family = AF_INET;
		b = inner;
	}
	for (int i = 0; i < options->allow_count; i++)
	{
		if (entry_covers(options->allow_hosts[i], family, b))
			return true;
	}
	if (is_odd_address(family, b))
		return false;
	if (options->allow_hosts == NULL)
		return true;
	return !is_private_address(family, b) && host_listed(options, url);
}

/*
 * The same for an address as text; what is none is not allowed.
 */
bool
crm_address_text_allowed(const CrmOptions *options, const char *url, const char *address)
{
	struct in6_addr six;
	struct in_addr four;

	if (address != NULL && inet_pton(AF_INET, address, &four) == 1)
		return crm_address_allowed(options, url, AF_INET, &four);
	if (address != NULL && inet_pton(AF_INET6, address, &six) == 1)
		return crm_address_allowed(options, url, AF_INET6, &six);
	return false;
}

/*
 * Behind a proxy nobody sees the address that it speaks to: then the URL's own
 * words decide, the name or the address that stands there.
 */
bool
crm_url_allowed(const CrmOptions *options, const char *url)
{
	char	   *host = url_host(url);
	char	   *bare = host;
	bool		allowed;
	struct in6_addr six;
	struct in_addr four;

	if (host == NULL)
		return false;
	if (*bare == '[')
	{
		bare++;
		bare[strcspn(bare, "]%")] = '\0';
	}
	if (inet_pton(AF_INET, bare, &four) == 1 || inet_pton(AF_INET6, bare, &six) == 1)
		allowed = crm_address_text_allowed(options, url, bare);
	else
		allowed = options->allow_hosts == NULL || host_listed(options, url);
	curl_free(host);
	return allowed;
}
