/*-------------------------------------------------------------------------
 *
 * name.c
 *	  Names and addresses as they are compared: the one form of each, the
 *	  likeness of two by trigrams, and all pairs of a list that are alike.
 *
 * The trigrams are those of contrib's pg_trgm (two blanks before a word, one
 * behind it, a set), and so is the likeness.  They are computed here because
 * pg_trgm asks the database's locale what a letter is: in a database of locale
 * C it finds none in Cyrillic.  A trigram is the three code points themselves,
 * 21 bits each, so no two are mistaken for one another.
 *
 * Everything works on UTF-8, whatever the database's encoding.  Nothing here
 * reads or writes a table or takes a lock; what comes from outside is cut to
 * MAX_SIGNS before it is looked at, and every long loop can be interrupted.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define MAX_SIGNS 1000			/* of a name or an address; the rest is not looked at */
#define MAX_WORDS 200
#define MAX_NAMES 2000000		/* of one call of similar_names */

/* A word of a name: a slice of the code points */
typedef struct Word
{
	pg_wchar   *signs;
	int			len;
	bool		gone;			/* says nothing about who it is */
} Word;

typedef struct Words
{
	pg_wchar	signs[MAX_SIGNS];
	Word		word[MAX_WORDS];
	int			nsigns;
	int			nwords;
} Words;

/* A name of similar_names: its trigrams as ranks, the rarest first */
typedef struct Grams
{
	int			from;			/* in the array of all ranks */
	int			len;
	int			given;			/* which name of the argument */
} Grams;

/* How a name met the one that is looked at: rarest trigrams in common, and where the last of them stands in either */
typedef struct Meeting
{
	int			common;
	int			in_mine;
	int			in_its;
} Meeting;

/* A name that another one is like */
typedef struct Best
{
	float4		score;
	int			name;
} Best;

/* Which names hold a trigram among their rarest; shortest first */
typedef struct Posting
{
	int			name;
	int			position;		/* of the trigram in it */
} Posting;

typedef struct Postings
{
	Posting    *names;
	int			len;
	int			room;
	int			head;			/* those before it are too short for all that follow */
} Postings;

PG_FUNCTION_INFO_V1(crm_party_norm_name);
PG_FUNCTION_INFO_V1(crm_party_address_norm);
PG_FUNCTION_INFO_V1(crm_party_name_grams);
PG_FUNCTION_INFO_V1(crm_party_name_similarity);
PG_FUNCTION_INFO_V1(crm_party_similar_names);

/* Forms of a legal person that are nothing else: dropped wherever they stand */
static const char *const forms[] = {
	"ооо", "оао", "зао", "пао", "нао", "ао", "одо", "тоо", "фгуп", "фгбу", "фгкоу", "гуп", "муп", "мбу", "гбу", "мку", "чоу", "ано", "нко", "снт", "тсж", "кфх",
	"ooo", "oao", "zao", "pao", "llc", "ltd", "limited", "gmbh", "inc", "incorporated", "jsc", "ojsc", "cjsc", "pjsc", "llp", "plc", "corp", "corporation",
	NULL
};

/* Short ones that may be part of a name: dropped at its ends */
static const char *const edge_forms[] = {
	"ип", "чп", "чуп", "уп", "пк", "спк", "пбоюл", "ao", "ip", "co", "ag", "sa", "ab", "oy", "bv", "nv", "kg", "srl", "spa", "as", "the", NULL
};

/* The same at length: the words of a phrase, and what stands for them (empty: nothing) */
typedef struct Phrase
{
	const char *words;
	const char *shorter;
} Phrase;

static const Phrase phrases[] = {
	{"общество с ограниченной ответственностью", ""},
	{"общество с дополнительной ответственностью", ""},
	{"товарищество с ограниченной ответственностью", ""},
	{"непубличное акционерное общество", ""},
	{"публичное акционерное общество", ""},
	{"открытое акционерное общество", ""},
	{"закрытое акционерное общество", ""},
	{"акционерное общество", ""},
	{"индивидуальный предприниматель", ""},
	{"федеральное государственное унитарное предприятие", ""},
	{"государственное унитарное предприятие", ""},
	{"муниципальное унитарное предприятие", ""},
	{"крестьянское фермерское хозяйство", ""},
	{"глава кфх", ""},
	{"limited liability company", ""},
	{"public joint stock company", ""},
	{"joint stock company", ""},
	{"торговый дом", "тд"},
	{"торговая компания", "тк"},
	{"строительная компания", "ск"},
	{"управляющая компания", "ук"},
	{"транспортная компания", "трк"},
	{"группа компаний", "гк"},
	{"производственная компания", "прк"},
	{"научно производственное объединение", "нпо"},
	{NULL, NULL}
};

/* What only says which kind of thing the next word of an address is */
static const char *const address_words[] = {
	"г", "гор", "город", "ул", "улица", "пр", "просп", "проспект", "пркт", "кт", "пер", "переулок", "наб", "набережная", "пл", "площадь", "ш", "шоссе", "б", "бул",
	"бульвар", "проезд", "туп", "тупик", "д", "дом", "влад", "владение", "стр", "строение", "корп", "корпус", "к", "кор", "лит", "литера", "литер", "оф", "офис", "кв",
	"квартира", "пом", "помещ", "помещение", "ком", "комн", "комната", "эт", "этаж", "обл", "область", "край", "респ", "республика", "р", "н", "район", "пос", "поселок",
	"п", "пгт", "с", "село", "дер", "деревня", "тер", "территория", "мкр", "микрорайон", "мкрн", "россия", "рф", "российская", "федерация", "st", "street", "office", NULL
};

static void words_read(text *given, Words *w);
static pg_wchar fold(pg_wchar c);
static bool is_letter(pg_wchar c);
static bool is_digit(pg_wchar c);
static bool is_nothing(pg_wchar c);
static bool word_is(const Word *word, const char *utf8);
static bool word_in(const Word *word, const char *const *list);
static void look_alikes(Word *word);
static void drop_forms(Words *w);
static text *words_text(const Words *w);
static int	grams_of(text *given, uint64 *grams);
static int	compare_grams(const void *a, const void *b);
static int	compare_ranks(const void *a, const void *b);
static int	compare_sizes(const void *a, const void *b);

/* ---- reading ------------------------------------------------------------ */

/* A letter in its small form. Of scripts that have two forms only those that names here are written in. */
static pg_wchar
fold(pg_wchar c)
{
	if (c < 128)
		return c >= 'A' && c <= 'Z' ? c + 32 : c;
	if (c == 0x401 || c == 0x451)
		return 0x435;			/* Ё is written as Е as often as not */
	if (c >= 0x410 && c <= 0x42F)
		return c + 0x20;
	if (c >= 0x400 && c <= 0x40F)
		return c + 0x50;
	if ((c >= 0x460 && c <= 0x481) || (c >= 0x48A && c <= 0x4BF) || (c >= 0x4D0 && c <= 0x52F))
		return c | 1;
	if (c >= 0xC0 && c <= 0xDE && c != 0xD7)
		return c + 0x20;
	if ((c >= 0x100 && c <= 0x137) || (c >= 0x14A && c <= 0x177))
		return c | 1;
	if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17E))
		return c + (c & 1);
	if (c >= 0x391 && c <= 0x3A9)
		return c + 0x20;
	if (c >= 0x531 && c <= 0x556)
		return c + 0x30;
	if (c >= 0xFF10 && c <= 0xFF19)
		return c - 0xFF10 + '0';
	if (c >= 0xFF21 && c <= 0xFF3A)
		return c - 0xFF21 + 'a';
	if (c >= 0xFF41 && c <= 0xFF5A)
		return c - 0xFF41 + 'a';
	return c;
}

/* Of a folded sign: does it belong to a word? */
static bool
is_letter(pg_wchar c)
{
	if (c < 128)
		return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
	if (c < 0xC0)
		return c == 0xAA || c == 0xB5 || c == 0xBA;
	if (c == 0xD7 || c == 0xF7)
		return false;
	if (c >= 0x2000 && c <= 0x2BFF)
		return false;			/* punctuation, signs of currency, arrows, boxes */
	if (c >= 0x3000 && c <= 0x303F)
		return false;
	if ((c >= 0xFE00 && c <= 0xFE6F) || c >= 0xFFE0)
		return false;
	if (c >= 0xE000 && c <= 0xF8FF)
		return false;
	return true;
}

static bool
is_digit(pg_wchar c)
{
	return c >= '0' && c <= '9';
}

/* Signs that stand inside a word and are not seen, and accents that stand apart from their letter */
static bool
is_nothing(pg_wchar c)
{
	return c == 0xAD || (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || (c >= 0x2060 && c <= 0x2064) ||
		c == 0xFEFF || (c >= 0x300 && c <= 0x36F);
}

/*
 * Splits a text into words of folded letters and digits. A dot joins single
 * letters ("О.О.О." is a word), an apostrophe joins what it stands between.
 */
static void
words_read(text *given, Words *w)
{
	char	   *server = text_to_cstring(given);
	char	   *utf8 = pg_server_to_any(server, strlen(server), PG_UTF8);
	int			bytes = strlen(utf8);
	pg_wchar   *signs = palloc(sizeof(pg_wchar) * MAX_SIGNS);
	int			n = 0;
	int			run = 0;		/* letters since the word began, or since its last dot */
	Word	   *word = NULL;	/* the open one */

	for (int i = 0; i < bytes && n < MAX_SIGNS;)
	{
		int			step = pg_utf_mblen((const unsigned char *) utf8 + i);
		pg_wchar	c;

		if (i + step > bytes)
			break;
		c = utf8_to_unicode((const unsigned char *) utf8 + i);
		i += step;
		if (c == 0x306 && n > 0 && signs[n - 1] == 0x438)
			signs[n - 1] = 0x439;	/* Й in two pieces, as some systems write it */
		else if (!is_nothing(c))
			signs[n++] = fold(c);
	}
	w->nsigns = w->nwords = 0;
	for (int i = 0; i < n; i++)
	{
		pg_wchar	c = signs[i];

		if (is_letter(c))
		{
			if (word == NULL)
			{
				if (w->nwords == MAX_WORDS)
					break;
				word = &w->word[w->nwords++];
				word->signs = &w->signs[w->nsigns];
				word->len = 0;
				word->gone = false;
				run = 0;
			}
			w->signs[w->nsigns++] = c;
			word->len++;
			run++;
		}
		else if (word != NULL && c == '.' && run == 1 && i + 1 < n && is_letter(signs[i + 1]) && !is_digit(signs[i + 1]) &&
				 (i + 2 >= n || !is_letter(signs[i + 2])))
			run = 0;			/* one letter on either side */
		else if (word != NULL && (c == '\'' || c == 0x2019 || c == 0x2BC))
			continue;
		else
			word = NULL;
	}
	pfree(signs);
	pfree(server);
}

static bool
word_is(const Word *word, const char *utf8)
{
	int			n = 0;

	while (*utf8 != '\0' && n < word->len)
	{
		if (utf8_to_unicode((const unsigned char *) utf8) != word->signs[n++])
			return false;
		utf8 += pg_utf_mblen((const unsigned char *) utf8);
	}
	return *utf8 == '\0' && n == word->len;
}

static bool
word_in(const Word *word, const char *const *list)
{
	for (int i = 0; list[i] != NULL; i++)
		if (word_is(word, list[i]))
			return true;
	return false;
}

/* A Cyrillic word in which somebody typed Latin letters that look the same */
static void
look_alikes(Word *word)
{
	static const char latin[] = "aceopxykmtbh";
	static const pg_wchar cyrillic[] = {0x430, 0x441, 0x435, 0x43E, 0x440, 0x445, 0x443, 0x43A, 0x43C, 0x442, 0x432, 0x43D};
	bool		has_cyrillic = false;

	for (int i = 0; i < word->len; i++)
		if (word->signs[i] >= 0x430 && word->signs[i] <= 0x44F)
			has_cyrillic = true;
	if (!has_cyrillic)
		return;
	for (int i = 0; i < word->len; i++)
	{
		const char *at = word->signs[i] < 128 && word->signs[i] != '\0' ? strchr(latin, (char) word->signs[i]) : NULL;

		if (at != NULL)
			word->signs[i] = cyrillic[at - latin];
	}
}

/* Takes the legal form out of a name, unless nothing would be left. */
static void
drop_forms(Words *w)
{
	int			left = 0;
	bool		more;

	for (int p = 0; phrases[p].words != NULL; p++)
	{
		for (int i = 0; i < w->nwords; i++)
		{
			const char *at = phrases[p].words;
			int			n = i;
			bool		same = true;

			while (same && *at != '\0')
			{
				char		one[64];
				int			len = strcspn(at, " ");

				memcpy(one, at, len);
				one[len] = '\0';
				at += len + (at[len] == ' ');
				same = n < w->nwords && !w->word[n].gone && word_is(&w->word[n], one);
				n++;
			}
			if (!same)
				continue;
			for (int g = i; g < n; g++)
				w->word[g].gone = true;
			if (phrases[p].shorter[0] != '\0')
			{
				/* what is shorter fits where the first word stood */
				Word	   *word = &w->word[i];

				word->gone = false;
				word->len = 0;
				for (const char *s = phrases[p].shorter; *s != '\0'; s += pg_utf_mblen((const unsigned char *) s))
					word->signs[word->len++] = utf8_to_unicode((const unsigned char *) s);
			}
		}
	}
	for (int i = 0; i < w->nwords; i++)
		if (!w->word[i].gone && word_in(&w->word[i], forms))
			w->word[i].gone = true;
	do
	{
		int			first = -1,
					last = -1;

		more = false;
		for (int i = 0; i < w->nwords; i++)
			if (!w->word[i].gone)
			{
				if (first < 0)
					first = i;
				last = i;
			}
		if (first < 0 || first == last)
			break;
		if (word_in(&w->word[first], edge_forms))
			w->word[first].gone = more = true;
		else if (word_in(&w->word[last], edge_forms))
			w->word[last].gone = more = true;
	} while (more);

	for (int i = 0; i < w->nwords; i++)
		left += !w->word[i].gone;
	if (left == 0)
		for (int i = 0; i < w->nwords; i++)
			w->word[i].gone = false;
}

/* The words that are left, a blank between them, in the server's encoding */
static text *
words_text(const Words *w)
{
	char	   *utf8 = palloc(w->nsigns * MAX_MULTIBYTE_CHAR_LEN + w->nwords + 1);
	char	   *at = utf8;
	char	   *server;

	for (int i = 0; i < w->nwords; i++)
	{
		if (w->word[i].gone)
			continue;
		if (at != utf8)
			*at++ = ' ';
		for (int n = 0; n < w->word[i].len; n++)
		{
			unicode_to_utf8(w->word[i].signs[n], (unsigned char *) at);
			at += pg_utf_mblen((unsigned char *) at);
		}
	}
	*at = '\0';
	server = pg_any_to_server(utf8, at - utf8, PG_UTF8);
	return cstring_to_text(server);
}

Datum
crm_party_norm_name(PG_FUNCTION_ARGS)
{
	Words	   *w = palloc(sizeof(Words));

	words_read(PG_GETARG_TEXT_PP(0), w);
	for (int i = 0; i < w->nwords; i++)
		look_alikes(&w->word[i]);
	drop_forms(w);
	PG_RETURN_TEXT_P(words_text(w));
}

/*
 * An address as it is compared: the words that only name the kind of what
 * follows and the postal index are left out, and "д5" is "5".
 */
Datum
crm_party_address_norm(PG_FUNCTION_ARGS)
{
	Words	   *w = palloc(sizeof(Words));

	words_read(PG_GETARG_TEXT_PP(0), w);
	for (int i = 0; i < w->nwords; i++)
	{
		Word	   *word = &w->word[i];
		Word		before;
		int			digits = 0;

		look_alikes(word);
		for (int n = 0; n < word->len; n++)
			digits += is_digit(word->signs[n]);
		if (word_in(word, address_words) || (digits == 6 && word->len == 6))
			word->gone = true;
		else if (digits > 0 && digits < word->len)
		{
			/* letters and then digits: a word of the list may have run into its number */
			before = *word;
			before.len = 0;
			while (before.len < word->len && word->signs[before.len] >= 128)
				before.len++;
			if (before.len > 0 && before.len + digits == word->len && word_in(&before, address_words))
			{
				word->signs += before.len;
				word->len -= before.len;
			}
		}
	}
	PG_RETURN_TEXT_P(words_text(w));
}

/* ---- trigrams ----------------------------------------------------------- */

static int
compare_grams(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

/* The trigrams of a text, ascending, each once. There is room for MAX_SIGNS * 2. */
static int
grams_of(text *given, uint64 *grams)
{
	Words	   *w = palloc(sizeof(Words));
	int			n = 0,
				unique = 0;

	words_read(given, w);
	for (int i = 0; i < w->nwords; i++)
	{
		uint64		last = ((uint64) ' ' << 21) | ' ';

		for (int s = 0; s <= w->word[i].len; s++)
		{
			last = ((last << 21) | (s < w->word[i].len ? w->word[i].signs[s] : ' ')) & ((UINT64CONST(1) << 63) - 1);
			grams[n++] = last;
		}
	}
	pfree(w);
	if (n == 0)
		return 0;
	qsort(grams, n, sizeof(uint64), compare_grams);
	for (int i = 1; i < n; i++)
		if (grams[i] != grams[unique])
			grams[++unique] = grams[i];
	return unique + 1;
}

Datum
crm_party_name_grams(PG_FUNCTION_ARGS)
{
	uint64	   *grams = palloc(sizeof(uint64) * MAX_SIGNS * 2);
	int			n = grams_of(PG_GETARG_TEXT_PP(0), grams);
	Datum	   *values = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		values[i] = Int64GetDatum((int64) grams[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(values, n, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

Datum
crm_party_name_similarity(PG_FUNCTION_ARGS)
{
	uint64	   *one = palloc(sizeof(uint64) * MAX_SIGNS * 2);
	uint64	   *two = palloc(sizeof(uint64) * MAX_SIGNS * 2);
	int			n = grams_of(PG_GETARG_TEXT_PP(0), one);
	int			m = grams_of(PG_GETARG_TEXT_PP(1), two);
	int			common = 0;

	for (int i = 0, k = 0; i < n && k < m;)
	{
		if (one[i] == two[k])
		{
			common++;
			i++;
			k++;
		}
		else if (one[i] < two[k])
			i++;
		else
			k++;
	}
	PG_RETURN_FLOAT4(n + m == 0 ? 0.0f : (float4) common / (float4) (n + m - common));
}

/* ---- all pairs that are alike ------------------------------------------- */

static int
compare_ranks(const void *a, const void *b)
{
	int			x = *(const int *) a;
	int			y = *(const int *) b;

	return x < y ? -1 : x > y;
}

static int
compare_sizes(const void *a, const void *b)
{
	const Grams *x = a;
	const Grams *y = b;

	if (x->len != y->len)
		return x->len < y->len ? -1 : 1;
	return x->given < y->given ? -1 : x->given > y->given;
}

typedef struct Frequency
{
	uint64		gram;
	int			count;
	int			rank;
} Frequency;

static int
compare_frequency(const void *a, const void *b)
{
	const Frequency *x = a;
	const Frequency *y = b;

	if (x->count != y->count)
		return x->count < y->count ? -1 : 1;
	return x->gram < y->gram ? -1 : x->gram > y->gram;
}

static int
compare_frequency_gram(const void *a, const void *b)
{
	const Frequency *x = a;
	const Frequency *y = b;

	return x->gram < y->gram ? -1 : x->gram > y->gram;
}

/*
 * All pairs of a list whose likeness reaches a threshold, exactly, and not by
 * comparing each with each. Two sets that share a part t of their union also
 * share one of the rarest n - ceil(t n) + 1 of either: only those are put into
 * an index, and only names that meet there are compared.
 */
Datum
crm_party_similar_names(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	float4		threshold = PG_GETARG_FLOAT4(2);
	int			at_most = PG_GETARG_INT32(3);
	int			best_room = 16;
	Best	   *best;
	MemoryContext old;
	MemoryContext work;
	Datum	   *ids,
			   *names;
	bool	   *id_null,
			   *name_null;
	int			nids,
				nnames;
	uint64	   *all;
	uint64	   *one;
	Size		room = 0,
				used = 0;
	Grams	   *name;
	Frequency  *frequency;
	int			nfrequency = 0;
	int		   *ranks;
	Postings   *postings;
	Meeting    *met;
	int		   *candidates;

	if (!(threshold >= 0.2f && threshold <= 1.0f))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("threshold %g is out of range", threshold),
				 errhint("Give a likeness from 0.2 to 1.")));
	if (at_most < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("a name cannot be given %d others", at_most),
				 errhint("Give how many others a name is to be given at most, or 0 for all.")));
	if (at_most == 0)
		at_most = MAX_NAMES;
	best_room = Min(best_room, at_most);
	InitMaterializedSRF(fcinfo, 0);
	work = AllocSetContextCreate(CurrentMemoryContext, "crm similar names", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(work);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), INT8OID, 8, true, TYPALIGN_DOUBLE, &ids, &id_null, &nids);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &names, &name_null, &nnames);
	if (nids != nnames || nids > MAX_NAMES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("crm.similar_names() was given %d numbers and %d names", nids, nnames),
				 errhint("Give one number for each name, at most %d.", MAX_NAMES)));

	/* the trigrams of each */
	one = palloc(sizeof(uint64) * MAX_SIGNS * 2);
	name = MemoryContextAllocHuge(work, sizeof(Grams) * (Size) Max(nids, 1));
	room = (Size) Max(nids, 1) * 24 + MAX_SIGNS * 2;
	all = MemoryContextAllocHuge(work, sizeof(uint64) * room);
	for (int i = 0; i < nids; i++)
	{
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		name[i].given = i;
		name[i].from = (int) used;
		name[i].len = id_null[i] || name_null[i] ? 0 : grams_of(DatumGetTextPP(names[i]), one);
		if (used + name[i].len > INT_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the names are too long to be compared at once"),
					 errhint("Give fewer names.")));
		if (used + name[i].len > room)
		{
			room = room * 2 + MAX_SIGNS * 2;
			all = repalloc_huge(all, sizeof(uint64) * room);
		}
		memcpy(all + used, one, sizeof(uint64) * name[i].len);
		used += name[i].len;
	}

	/* how often each occurs, and by that its rank */
	frequency = MemoryContextAllocHuge(work, sizeof(Frequency) * Max(used, 1));
	{
		uint64	   *sorted = MemoryContextAllocHuge(work, sizeof(uint64) * Max(used, 1));

		memcpy(sorted, all, sizeof(uint64) * used);
		qsort(sorted, used, sizeof(uint64), compare_grams);
		CHECK_FOR_INTERRUPTS();
		for (Size i = 0; i < used; i++)
		{
			if (nfrequency == 0 || frequency[nfrequency - 1].gram != sorted[i])
			{
				frequency[nfrequency].gram = sorted[i];
				frequency[nfrequency].count = 0;
				nfrequency++;
			}
			frequency[nfrequency - 1].count++;
		}
		pfree(sorted);
	}
	qsort(frequency, nfrequency, sizeof(Frequency), compare_frequency);
	for (int i = 0; i < nfrequency; i++)
		frequency[i].rank = i;
	qsort(frequency, nfrequency, sizeof(Frequency), compare_frequency_gram);
	ranks = MemoryContextAllocHuge(work, sizeof(int) * Max(used, 1));
	for (int i = 0; i < nids; i++)
	{
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		for (int g = 0; g < name[i].len; g++)
		{
			Frequency	key;
			Frequency  *found;

			key.gram = all[name[i].from + g];
			found = bsearch(&key, frequency, nfrequency, sizeof(Frequency), compare_frequency_gram);
			ranks[name[i].from + g] = found->rank;
		}
		qsort(ranks + name[i].from, name[i].len, sizeof(int), compare_ranks);
	}
	pfree(all);
	qsort(name, nids, sizeof(Grams), compare_sizes);

	/* shortest first: each meets those before it */
	postings = MemoryContextAllocExtended(work, sizeof(Postings) * (Size) Max(nfrequency, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	met = MemoryContextAllocExtended(work, sizeof(Meeting) * (Size) Max(nids, 1), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	best = MemoryContextAllocHuge(work, sizeof(Best) * (Size) best_room);
	candidates = MemoryContextAllocHuge(work, sizeof(int) * (Size) Max(nids, 1));
	for (int x = 0; x < nids; x++)
	{
		int			len = name[x].len;
		int			needed = (int) ceilf(threshold * len - 1e-4f);
		int			prefix = len - Max(needed, 1) + 1;
		int			ncandidates = 0;
		int			nbest = 0;
		int		   *mine = ranks + name[x].from;

		CHECK_FOR_INTERRUPTS();
		if (len == 0)
			continue;
		for (int g = 0; g < prefix; g++)
		{
			Postings   *list = &postings[mine[g]];

			while (list->head < list->len && name[list->names[list->head].name].len < needed)
				list->head++;
			for (int k = list->head; k < list->len; k++)
			{
				int			y = list->names[k].name;

				if (met[y].common++ == 0)
					candidates[ncandidates++] = y;
				met[y].in_mine = g;
				met[y].in_its = list->names[k].position;
			}
		}
		for (int k = 0; k < ncandidates; k++)
		{
			int			y = candidates[k];
			int			other = name[y].len;
			int		   *its = ranks + name[y].from;
			int			enough = (int) ceilf(threshold / (1.0f + threshold) * (len + other) - 1e-4f);
			int			common = met[y].common;
			int			i = met[y].in_mine + 1;
			int			j = met[y].in_its + 1;

			if ((k & 1023) == 0)
				CHECK_FOR_INTERRUPTS();
			met[y].common = 0;
			/* what they have in common up to there was met; the rest must hold enough */
			while (i < len && j < other && common + Min(len - i, other - j) >= enough)
			{
				if (mine[i] == its[j])
				{
					common++;
					i++;
					j++;
				}
				else if (mine[i] < its[j])
					i++;
				else
					j++;
			}
			if (common > 0 && (float4) common / (float4) (len + other - common) >= threshold)
			{
				float4		score = (float4) common / (float4) (len + other - common);
				int			at = nbest;

				/* the best so far, best first: of a name that a thousand others are like, a few are enough */
				if (nbest == best_room)
				{
					if (best_room < at_most)
					{
						best_room = Min(best_room * 2, at_most);
						best = repalloc_huge(best, sizeof(Best) * (Size) best_room);
					}
					else if (best[nbest - 1].score >= score)
						continue;
					else
						at = --nbest;
				}
				while (at > 0 && best[at - 1].score < score)
				{
					best[at] = best[at - 1];
					at--;
				}
				best[at].score = score;
				best[at].name = y;
				nbest++;
			}
		}
		for (int k = 0; k < nbest; k++)
		{
			Datum		values[3];
			bool		nulls[3] = {false, false, false};
			int64		a = DatumGetInt64(ids[name[x].given]);
			int64		b = DatumGetInt64(ids[name[best[k].name].given]);

			values[0] = Int64GetDatum(Min(a, b));
			values[1] = Int64GetDatum(Max(a, b));
			values[2] = Float4GetDatum(best[k].score);
			tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		}
		for (int g = 0; g < prefix; g++)
		{
			Postings   *list = &postings[mine[g]];

			if (list->len == list->room)
			{
				list->room = list->room == 0 ? 4 : list->room * 2;
				list->names = list->names == NULL ? palloc(sizeof(Posting) * list->room) :
					repalloc_huge(list->names, sizeof(Posting) * (Size) list->room);
			}
			list->names[list->len].name = x;
			list->names[list->len].position = g;
			list->len++;
		}
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(work);
	return (Datum) 0;
}
