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

static char *read_secret(const char *path, SecretProblem *problem);
static void mask_one(StringInfo to, const char *from, int length, const char *secret, int secret_length);
static char *percent_encoded(const char *from, int length, int *encoded_length);
static char *base64_encoded(const char *from, int length, int *encoded_length);

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
	char	   *from = VARDATA_ANY(bytes);
	int			length = VARSIZE_ANY_EXHDR(bytes);
	bytea	   *result;

	deconstruct_array(secrets, TEXTOID, -1, false, TYPALIGN_INT, &values, &nulls, &number);
	for (int i = 0; i < number; i++)
	{
		text	   *secret;
		char	   *forms[3];
		int			lengths[3];

		if (nulls[i])
			continue;
		secret = DatumGetTextPP(values[i]);
		if (VARSIZE_ANY_EXHDR(secret) < SECRET_MIN_MASKED)
			continue;
		forms[0] = VARDATA_ANY(secret);
		lengths[0] = VARSIZE_ANY_EXHDR(secret);
		forms[1] = percent_encoded(forms[0], lengths[0], &lengths[1]);
		forms[2] = base64_encoded(forms[0], lengths[0], &lengths[2]);
		for (int j = 0; j < 3; j++)
		{
			StringInfoData to;

			CHECK_FOR_INTERRUPTS();
			initStringInfo(&to);
			mask_one(&to, from, length, forms[j], lengths[j]);
			from = to.data;
			length = to.len;
		}
	}
	result = palloc(VARHDRSZ + length);
	SET_VARSIZE(result, VARHDRSZ + length);
	memcpy(VARDATA(result), from, length);
	PG_RETURN_BYTEA_P(result);
}

static void
mask_one(StringInfo to, const char *from, int length, const char *secret, int secret_length)
{
	const char *end = from + length;

	while (from < end)
	{
		const char *hit = secret_length <= end - from ? memmem(from, end - from, secret, secret_length) : NULL;

		if (hit == NULL)
			hit = end;
		appendBinaryStringInfo(to, from, hit - from);
		if (hit == end)
			break;
		appendStringInfoString(to, "***");
		from = hit + secret_length;
	}
}

static char *
percent_encoded(const char *from, int length, int *encoded_length)
{
	StringInfoData to;

	initStringInfo(&to);
	for (int i = 0; i < length; i++)
	{
		unsigned char c = from[i];

		if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._~", c) != NULL)
			appendStringInfoChar(&to, c);
		else
			appendStringInfo(&to, "%%%02X", c);
	}
	*encoded_length = to.len;
	return to.data;
}

static char *
base64_encoded(const char *from, int length, int *encoded_length)
{
	int			room = pg_b64_enc_len(length);
	char	   *to = palloc(room + 1);
	int			got = pg_b64_encode(from, length, to, room);

	/* the padding depends on what follows the secret in a longer text */
	while (got > 0 && to[got - 1] == '=')
		got--;
	*encoded_length = Max(got, 0);
	return to;
}
