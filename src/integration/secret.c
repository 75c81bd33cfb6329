/*-------------------------------------------------------------------------
 *
 * secret.c
 *	  Secrets in files, and the masking of secrets in what is kept.
 *
 * Nothing here may put a secret into an error or the log: errors name the
 * path only.  The file is read at each use; nothing is cached.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "catalog/pg_type.h"
#include "common/base64.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define SECRET_MAX_BYTES	65536
#define SECRET_MIN_MASKED	4	/* shorter ones are no secrets, and would mask half of a text */

/* What is wrong with a file; kept apart from raising so that health can say it. */
typedef struct SecretProblem
{
	int			sqlstate;
	const char *words;
	const char *hint;
} SecretProblem;

/* What is being masked; the first bytes belong to the caller and stay as they are. */
typedef struct Masked
{
	const char *data;
	int			length;
} Masked;

static char *read_secret(const char *path, SecretProblem *problem);
static void mask_secret(Masked *kept, const char *secret, int length);
static void mask_base64(Masked *kept, char *form, int length);
static void mask_form(Masked *kept, const char *form, int length);
static void percent_encode(StringInfo to, const char *from, int length, const char *digits);
static void base64_encode(StringInfo to, const char *from, int length, int shift);

PG_FUNCTION_INFO_V1(crm_integration_secret_file);
PG_FUNCTION_INFO_V1(crm_integration_secret_file_problem);
PG_FUNCTION_INFO_V1(crm_integration_mask);

Datum
crm_integration_secret_file(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SecretProblem problem = {0};
	char	   *secret = read_secret(path, &problem);

	if (secret == NULL)
		ereport(ERROR,
				errcode(problem.sqlstate),
				errmsg("cannot take a secret from file \"%s\": %s", path, problem.words),
				errhint("%s", problem.hint));
	PG_RETURN_TEXT_P(cstring_to_text(secret));
}

Datum
crm_integration_secret_file_problem(PG_FUNCTION_ARGS)
{
	char	   *path = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SecretProblem problem = {0};

	if (read_secret(path, &problem) != NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(problem.words));
}

/* The secret, or NULL and the problem. */
static char *
read_secret(const char *path, SecretProblem *problem)
{
	struct stat st;
	char	   *buffer;
	int			fd;
	int			length = 0;

	if (!is_absolute_path(path))
	{
		problem->sqlstate = ERRCODE_INVALID_NAME;
		problem->words = "the path is not absolute";
		problem->hint = "Write file:/the/whole/path.";
		return NULL;
	}

	/* Not blocking: a pipe without a writer must not hold the session. */
	fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);
	if (fd < 0 || fstat(fd, &st) != 0)
	{
		int			save_errno = errno;

		if (fd >= 0)
			CloseTransientFile(fd);
		problem->sqlstate = save_errno == ENOENT || save_errno == ENOTDIR ? ERRCODE_UNDEFINED_FILE :
			save_errno == EACCES || save_errno == EPERM ? ERRCODE_INSUFFICIENT_PRIVILEGE : ERRCODE_IO_ERROR;
		problem->words = pstrdup(strerror(save_errno));
		problem->hint = "The operating system's user of the server must be able to read it.";
		return NULL;
	}
	if (!S_ISREG(st.st_mode))
	{
		CloseTransientFile(fd);
		problem->sqlstate = ERRCODE_WRONG_OBJECT_TYPE;
		problem->words = "it is no regular file";
		problem->hint = "Give a plain file.";
		return NULL;
	}
	if (st.st_size > SECRET_MAX_BYTES)
	{
		CloseTransientFile(fd);
		problem->sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
		problem->words = "it is longer than 64 kB";
		problem->hint = "Keep only the secret in it.";
		return NULL;
	}

	buffer = palloc(SECRET_MAX_BYTES + 1);
	while (length < SECRET_MAX_BYTES)
	{
		ssize_t		got = read(fd, buffer + length, SECRET_MAX_BYTES - length);

		if (got < 0 && errno == EINTR)
		{
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		if (got < 0)
		{
			int			save_errno = errno;

			CloseTransientFile(fd);
			problem->sqlstate = ERRCODE_IO_ERROR;
			problem->words = pstrdup(strerror(save_errno));
			problem->hint = "Look at the file system.";
			return NULL;
		}
		if (got == 0)
			break;
		length += got;
	}
	CloseTransientFile(fd);

	if (length > 0 && buffer[length - 1] == '\n')
		length--;
	if (length > 0 && buffer[length - 1] == '\r')
		length--;
	buffer[length] = '\0';
	if (memchr(buffer, '\0', length) != NULL || !pg_verifymbstr(buffer, length, true))
	{
		explicit_bzero(buffer, length);
		problem->sqlstate = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
		problem->words = "it is no text in the database's encoding";
		problem->hint = "Keep the secret as text, for example in base64.";
		return NULL;
	}
	if (length == 0)
	{
		problem->sqlstate = ERRCODE_NO_DATA_FOUND;
		problem->words = "it is empty";
		problem->hint = "Write the secret into it.";
		return NULL;
	}
	return buffer;
}

Datum
crm_integration_mask(PG_FUNCTION_ARGS)
{
	bytea	   *bytes = PG_GETARG_BYTEA_PP(0);
	ArrayType  *secrets = PG_GETARG_ARRAYTYPE_P(1);
	Datum	   *values;
	bool	   *nulls;
	int			number;
	Masked		kept = {VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes)};
	bytea	   *result;

	deconstruct_array(secrets, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &number);
	for (int i = 0; i < number; i++)
	{
		text	   *secret;

		CHECK_FOR_INTERRUPTS();
		if (nulls[i])
			continue;
		secret = DatumGetTextPP(values[i]);
		if (VARSIZE_ANY_EXHDR(secret) >= SECRET_MIN_MASKED)
			mask_secret(&kept, VARDATA_ANY(secret), VARSIZE_ANY_EXHDR(secret));
	}
	result = palloc(VARHDRSZ + kept.length);
	SET_VARSIZE(result, VARHDRSZ + kept.length);
	memcpy(VARDATA(result), kept.data, kept.length);
	PG_RETURN_BYTEA_P(result);
}

/* Every form in which a service may say the secret again. */
static void
mask_secret(Masked *kept, const char *secret, int length)
{
	StringInfoData form;

	mask_form(kept, secret, length);
	initStringInfo(&form);
	percent_encode(&form, secret, length, "0123456789ABCDEF");
	mask_form(kept, form.data, form.len);
	percent_encode(&form, secret, length, "0123456789abcdef");
	mask_form(kept, form.data, form.len);
	if (memchr(secret, '/', length) != NULL)
	{
		/* some writers of JSON escape the slash */
		resetStringInfo(&form);
		for (int i = 0; i < length; i++)
		{
			if (secret[i] == '/')
				appendStringInfoChar(&form, '\\');
			appendStringInfoChar(&form, secret[i]);
		}
		mask_form(kept, form.data, form.len);
	}

	/* in base64: alone, then after any number of other bytes, as in user:password */
	base64_encode(&form, secret, length, 0);
	mask_base64(kept, form.data, form.len);
	for (int shift = 0; shift < 3; shift++)
	{
		int			first = shift == 0 ? 0 : shift + 1;
		int			whole = (shift + length) * 8 / 6;	/* what follows changes the rest */

		base64_encode(&form, secret, length, shift);
		mask_base64(kept, form.data + first, whole - first);
	}
	pfree(form.data);
}

/* Both alphabets of base64. */
static void
mask_base64(Masked *kept, char *form, int length)
{
	bool		differs = false;

	mask_form(kept, form, length);
	for (int i = 0; i < length; i++)
	{
		differs = differs || form[i] == '+' || form[i] == '/';
		form[i] = form[i] == '+' ? '-' : form[i] == '/' ? '_' : form[i];
	}
	if (differs)
		mask_form(kept, form, length);
}

static void
mask_form(Masked *kept, const char *form, int length)
{
	const char *from = kept->data;
	const char *end = from + kept->length;
	const char *hit;
	StringInfoData to;

	if (length < SECRET_MIN_MASKED || (hit = memmem(from, end - from, form, length)) == NULL)
		return;
	initStringInfo(&to);
	while (hit != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		appendBinaryStringInfo(&to, from, hit - from);
		appendStringInfoString(&to, "***");
		from = hit + length;
		hit = memmem(from, end - from, form, length);
	}
	appendBinaryStringInfo(&to, from, end - from);
	kept->data = to.data;
	kept->length = to.len;
}

static void
percent_encode(StringInfo to, const char *from, int length, const char *digits)
{
	resetStringInfo(to);
	for (int i = 0; i < length; i++)
	{
		unsigned char c = from[i];

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL)
			appendStringInfoChar(to, c);
		else
		{
			appendStringInfoChar(to, '%');
			appendStringInfoChar(to, digits[c >> 4]);
			appendStringInfoChar(to, digits[c & 15]);
		}
	}
}

/* The secret in base64 as it stands after shift other bytes, without padding. */
static void
base64_encode(StringInfo to, const char *from, int length, int shift)
{
	char	   *source = palloc0(shift + length);
	int			room = pg_b64_enc_len(shift + length);
	int			got;

	memcpy(source + shift, from, length);
	resetStringInfo(to);
	enlargeStringInfo(to, room);
	got = pg_b64_encode(source, shift + length, to->data, room);
	while (got > 0 && to->data[got - 1] == '=')
		got--;
	to->len = Max(got, 0);
	explicit_bzero(source, shift + length);
	pfree(source);
}
