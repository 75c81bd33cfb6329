/*-------------------------------------------------------------------------
 *
 * flight.c
 *	  The flight file: which requests may have left.
 *
 * A lease in the database says that a request was going to be sent.  Whether
 * it was, after a kill -9, nobody could tell: shared memory is wiped by the
 * crash restart.  So each courier maps a file of its own, PGDATA/crm_flight/
 * DATABASE.NUMBER, and marks a place in it before the first byte of a request
 * may leave; the place is cleared when the settle has committed.  The page
 * cache outlives the process.  It does not outlive the machine, so the header
 * names the boot, and also the file's own inode and the timeline, since a copy
 * of a data directory carries the file of another.  Whatever does not fit:
 * not trusted, and then everything that was leased may have left.
 *
 * A courier that starts reads the files of its database's other couriers too,
 * where no living one holds them: it takes over what any dead one had leased.
 *
 * Must never: fail or throw in crm_flight_mark (libcurl's frames are on the
 * stack).  The blocks are allocated when the file is made: a store into the
 * map can then not meet a full disk.
 *
 * Locks: flock on the file, so that two couriers never share it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/file_perm.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/slots.h"
#include "core/stop.h"
#include "workers/transport.h"

#define FLIGHT_DIRECTORY	"crm_flight"
#define FLIGHT_MAGIC		UINT64CONST(0x31746867696c6643)
#define FLIGHT_PLACES		8192
#define FLIGHT_HEADER		4096
#define FLIGHT_SIZE			(FLIGHT_HEADER + FLIGHT_PLACES * sizeof(FlightPlace))
#define BOOT_ID_LEN			40
#define OWN_LOCK_TRIES		500 /* of 10 ms */

typedef struct FlightHeader
{
	uint64		magic;			/* written last */
	int64		generation;
	uint64		system_identifier;
	uint64		device;
	uint64		inode;
	uint32		timeline;
	char		boot_id[BOOT_ID_LEN];
	uint64		check;			/* of all above but magic */
} FlightHeader;

typedef struct FlightPlace
{
	int64		integration;
	int64		ref;
	uint64		mark;			/* 0 = free, else the check of the two; written last */
} FlightPlace;

typedef struct FlightFile
{
	int			fd;
	FlightHeader *header;		/* the map; NULL = not open */
	FlightPlace *places;
	FlightHeader fresh;			/* what the header will be */
} FlightFile;

static FlightFile files[CRM_COURIERS_MAX];
static FlightFile *mine = NULL;
static int	free_places[FLIGHT_PLACES];
static int	free_count = 0;

static uint64
header_check(const FlightHeader *h)
{
	return hash_bytes_extended((const unsigned char *) h + offsetof(FlightHeader, generation),
							   offsetof(FlightHeader, check) - offsetof(FlightHeader, generation),
							   FLIGHT_MAGIC);
}

static uint64
place_check(int64 integration, int64 ref, int64 generation)
{
	int64		all[3] = {integration, ref, generation};
	uint64		check = hash_bytes_extended((const unsigned char *) all, sizeof(all),
											FLIGHT_MAGIC);

	return check == 0 ? 1 : check;
}

static void
read_boot_id(char *boot_id)
{
	int			fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t		length = 0;

	memset(boot_id, 0, BOOT_ID_LEN);
	if (fd >= 0)
	{
		length = read(fd, boot_id, BOOT_ID_LEN - 1);
		close(fd);
	}
	if (length <= 0)
	{
		/* unknown: every start is another boot */
		snprintf(boot_id, BOOT_ID_LEN, "unknown " INT64_FORMAT, GetCurrentTimestamp());
	}
}

/*
 * Open, lock and map one file, and tell what it holds; nothing in it is changed
 * yet.  One that is not there, and not mine, holds nothing that can be trusted.
 * False: a living courier has it.
 */
static bool
open_file(FlightFile *file, Oid database, int number, bool own, CrmFlightFound *found)
{
	char		path[MAXPGPATH];
	struct stat st;
	bool		whole;
	bool		trusted = false;
	FlightHeader *header;

	memset(found, 0, sizeof(*found));
	found->number = number;
	snprintf(path, sizeof(path), "%s/%u.%d", FLIGHT_DIRECTORY, database, number);
	if (!AcquireExternalFD())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("out of file descriptors for file \"%s\"", path)));
	file->fd = open(path, O_RDWR | (own ? O_CREAT : 0) | O_CLOEXEC, pg_file_create_mode);
	if (file->fd < 0)
	{
		ReleaseExternalFD();
		if (!own && errno == ENOENT)
			return true;
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
	}
	/* another courier that starts holds mine for the moment of its take-over */
	for (int tries = 0; flock(file->fd, LOCK_EX | LOCK_NB) != 0; tries++)
	{
		if (!own || tries >= OWN_LOCK_TRIES)
		{
			close(file->fd);
			ReleaseExternalFD();
			if (!own)
				return false;
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_IN_USE),
					 errmsg("file \"%s\" is locked by another courier", path),
					 errhint("It is released when the last process of an earlier server has ended.")));
		}
		pg_usleep(10000);
		CHECK_FOR_INTERRUPTS();
	}
	if (fstat(file->fd, &st) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not stat file \"%s\": %m", path)));

	whole = st.st_size == FLIGHT_SIZE;
	if (!whole && ftruncate(file->fd, 0) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not truncate file \"%s\": %m", path)));
	errno = posix_fallocate(file->fd, 0, FLIGHT_SIZE);
	if (errno != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not allocate %d bytes for file \"%s\": %m",
						(int) FLIGHT_SIZE, path)));
	header = mmap(NULL, FLIGHT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, 0);
	if (header == MAP_FAILED)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not map file \"%s\": %m", path)));
	file->header = header;
	file->places = (FlightPlace *) ((char *) header + FLIGHT_HEADER);

	memset(&file->fresh, 0, sizeof(file->fresh));
	file->fresh.system_identifier = GetSystemIdentifier();
	file->fresh.timeline = GetWALInsertionTimeLine();
	file->fresh.device = st.st_dev;
	file->fresh.inode = st.st_ino;
	read_boot_id(file->fresh.boot_id);
	file->fresh.generation = GetCurrentTimestamp();

	if (whole && header->magic == FLIGHT_MAGIC && header->check == header_check(header))
	{
		file->fresh.generation = Max(file->fresh.generation, header->generation + 1);
		trusted = header->system_identifier == file->fresh.system_identifier &&
			header->timeline == file->fresh.timeline &&
			header->device == file->fresh.device && header->inode == file->fresh.inode &&
			memcmp(header->boot_id, file->fresh.boot_id, BOOT_ID_LEN) == 0;
	}
	file->fresh.check = header_check(&file->fresh);

	if (trusted)
	{
		found->integrations = MemoryContextAlloc(TopMemoryContext, FLIGHT_PLACES * sizeof(int64));
		found->refs = MemoryContextAlloc(TopMemoryContext, FLIGHT_PLACES * sizeof(int64));
	}
	for (int i = 0; trusted && i < FLIGHT_PLACES; i++)
	{
		FlightPlace *p = &file->places[i];

		if (p->mark == 0)
			continue;
		trusted = p->mark == place_check(p->integration, p->ref, header->generation);
		found->integrations[found->count] = p->integration;
		found->refs[found->count++] = p->ref;
	}
	found->trusted = trusted;
	if (!trusted)
		found->count = 0;
	return true;
}

/*
 * Tell what this courier's file holds, and those of the other couriers of its
 * database that are dead: CRM_COURIERS_MAX places in found, *found_count of
 * them filled.  Nothing is changed yet.  Returns the generation of this start:
 * larger than every earlier one of this file.
 */
int64
crm_flight_open(Oid database, int number, CrmFlightFound *found, int *found_count)
{
	if (MakePGDirectory(FLIGHT_DIRECTORY) != 0 && errno != EEXIST)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not create directory \"%s\": %m", FLIGHT_DIRECTORY)));

	*found_count = 0;
	mine = &files[number];
	for (int i = 0; i < CRM_COURIERS_MAX; i++)
	{
		if (open_file(&files[i], database, i, i == number, &found[*found_count]))
			(*found_count)++;
	}
	return mine->fresh.generation;
}

/*
 * What was found is settled (courier_start has committed): clean files under
 * new generations, and those of others are let go.  Killed in between, a file
 * is not trusted.
 */
void
crm_flight_begin(void)
{
	for (int i = 0; i < CRM_COURIERS_MAX; i++)
	{
		FlightFile *file = &files[i];

		if (file->header == NULL)
			continue;
		file->header->magic = 0;
		pg_memory_barrier();
		memset(file->places, 0, FLIGHT_PLACES * sizeof(FlightPlace));
		CRM_STOP("start: flight file half clean");
		memcpy((char *) file->header + sizeof(uint64), (char *) &file->fresh + sizeof(uint64),
			   sizeof(FlightHeader) - sizeof(uint64));
		pg_memory_barrier();
		file->header->magic = FLIGHT_MAGIC;
		if (file != mine)
		{
			(void) munmap(file->header, FLIGHT_SIZE);
			(void) close(file->fd);
			ReleaseExternalFD();
			file->header = NULL;
		}
	}

	free_count = 0;
	for (int i = FLIGHT_PLACES - 1; i >= 0; i--)
		free_places[free_count++] = i;
}

/*
 * A place for a request that is about to start, or -1.
 */
int
crm_flight_reserve(void)
{
	return free_count > 0 ? free_places[--free_count] : -1;
}

int
crm_flight_free(void)
{
	return free_count;
}

void
crm_flight_mark(int place, int64 integration, int64 ref)
{
	FlightPlace *p;

	if (place < 0)
		return;
	CRM_STOP("send: before the mark");
	p = &mine->places[place];
	p->integration = integration;
	p->ref = ref;
	pg_write_barrier();
	CRM_STOP("send: half a mark");
	p->mark = place_check(integration, ref, mine->fresh.generation);
	pg_write_barrier();
	CRM_STOP("send: after the mark");
}

void
crm_flight_clear(int place)
{
	if (place < 0)
		return;
	mine->places[place].mark = 0;
	free_places[free_count++] = place;
	CRM_STOP("settle: a mark cleared");
}

/*
 * Remove the files of databases that are no more, before an oid comes again.
 */
void
crm_flight_sweep(const Oid *databases, int count)
{
	DIR		   *directory = opendir(FLIGHT_DIRECTORY);
	struct dirent *entry;

	if (directory == NULL)
		return;
	while ((entry = readdir(directory)) != NULL)
	{
		char		path[MAXPGPATH];
		char	   *end;
		unsigned long oid = strtoul(entry->d_name, &end, 10);
		bool		known = false;

		if (oid == 0 || *end != '.')
			continue;
		for (int i = 0; i < count && !known; i++)
			known = databases[i] == (Oid) oid;
		if (known)
			continue;
		snprintf(path, sizeof(path), "%s/%s", FLIGHT_DIRECTORY, entry->d_name);
		(void) unlink(path);
	}
	closedir(directory);
}
