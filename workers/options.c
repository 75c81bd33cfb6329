/*-------------------------------------------------------------------------
 *
 * options.c
 *	  What the settings of an integration mean for the transport.
 *
 * Unknown keys are the kind's business.  A setting that is there but makes no
 * sense is read the strict way: a list that is no list allows nobody.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "workers/transport.h"

static char *
plain_copy(const JsonbValue *value)
{
	return pnstrdup(value->val.string.val, value->val.string.len);
}

static bool
option_value(JsonbContainer *container, const char *key, JsonbValue *value)
{
	return JsonContainerIsObject(container) &&
		getKeyJsonValueFromContainer(container, key, strlen(key), value) != NULL &&
		value->type != jbvNull;
}

static bool
is_true(JsonbContainer *root, const char *key)
{
	JsonbValue	value;

	return option_value(root, key, &value) &&
		((value.type == jbvBool && value.val.boolean) ||
		 (value.type == jbvString && value.val.string.len == 4 && memcmp(value.val.string.val, "true", 4) == 0));
}

static bool
is_false(JsonbContainer *root, const char *key)
{
	JsonbValue	value;

	return option_value(root, key, &value) &&
		((value.type == jbvBool && !value.val.boolean) ||
		 (value.type == jbvString && value.val.string.len == 5 && memcmp(value.val.string.val, "false", 5) == 0));
}

/*
 * Fills *options with memory of the current context.
 */
void
crm_options_parse(const Jsonb *settings, CrmOptions *options)
{
	JsonbContainer *root;
	JsonbValue	value;

	memset(options, 0, sizeof(*options));
	if (settings == NULL)
		return;
	root = unconstify(JsonbContainer *, &settings->root);
	if (option_value(root, "ca_file", &value) && value.type == jbvString)
		options->ca_file = plain_copy(&value);
	if (option_value(root, "proxy", &value) && value.type == jbvString)
		options->proxy = plain_copy(&value);
	options->starttls = is_true(root, "starttls");
	if (option_value(root, "sslmode", &value))
		options->sslmode = value.type == jbvString ? plain_copy(&value) : pstrdup("");
	options->writes = is_false(root, "read_only");
	options->without_password = is_true(root, "without_password");
	if (option_value(root, "allow_hosts", &value))
	{
		JsonbContainer *list = value.type == jbvBinary &&
		JsonContainerIsArray(value.val.binary.data) ? value.val.binary.data : NULL;
		int			count = list ? JsonContainerSize(list) : 0;

		options->allow_hosts = palloc0(Max(count, 1) * sizeof(char *));
		for (int i = 0; i < count; i++)
		{
			JsonbValue *item = getIthJsonbValueFromContainer(list, i);

			if (item != NULL && item->type == jbvString)
				options->allow_hosts[options->allow_count++] = plain_copy(item);
			/* a courier reads settings in memory that is never reset */
			if (item != NULL)
				pfree(item);
		}
	}
}

void
crm_options_free(CrmOptions *options)
{
	if (options->ca_file)
		pfree(options->ca_file);
	if (options->proxy)
		pfree(options->proxy);
	if (options->sslmode)
		pfree(options->sslmode);
	for (int i = 0; i < options->allow_count; i++)
		pfree(options->allow_hosts[i]);
	if (options->allow_hosts)
		pfree(options->allow_hosts);
	memset(options, 0, sizeof(*options));
}
