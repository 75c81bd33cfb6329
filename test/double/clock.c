/*
 * clock.c
 *	  Moves the wall clock of a server for a test: LD_PRELOADed, it adds the
 *	  seconds that the file CRM_TEST_CLOCK holds (an int64, mapped) to what
 *	  gettimeofday, time and clock_gettime(CLOCK_REALTIME) say.  The monotonic
 *	  clocks stay what they are, as on a machine whose clock is set.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *offset = NULL;

__attribute__((constructor)) static void
open_offset(void)
{
	const char *path = getenv("CRM_TEST_CLOCK");
	int			fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd >= 0)
	{
		void	   *map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);

		if (map != MAP_FAILED)
			offset = map;
		close(fd);
	}
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	int			rc = syscall(SYS_clock_gettime, clock, t);

	if (rc == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += *offset;
	return rc;
}

int
gettimeofday(struct timeval *restrict t, void *restrict zone)
{
	struct timespec now;

	(void) zone;
	if (clock_gettime(CLOCK_REALTIME, &now) != 0)
		return -1;
	t->tv_sec = now.tv_sec;
	t->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *to)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (to)
		*to = now.tv_sec;
	return now.tv_sec;
}
