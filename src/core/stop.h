/*-------------------------------------------------------------------------
 *
 * stop.h
 *	  Named stops: where a test may hold a process and kill it.
 *
 * CRM_STOP("claim: before commit") is nothing, unless the file was compiled
 * with -DCRM_STOPS, which test/stops/build does.  Then the process that comes
 * by a stop whose file crm_stops/NAME.armed is in the data directory takes it
 * (one process does), writes its pid to crm_stops/NAME.reached, and stays there
 * until that file is gone.  It serves no interrupt meanwhile; a signal that
 * ends it at once, as SIGKILL and SIGQUIT do, ends it there.
 *
 * test/t/115_stops.pl lists the stops and what must be true at each.
 *
 * Must never: throw, allocate, or use anything of the server: stops stand in
 * the call-backs of a commit and of libcurl.
 *
 * Locks: none.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_STOP_H
#define CRM_STOP_H

#ifdef CRM_STOPS

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define CRM_STOP(name) crm_stop_at(name)

static inline void
crm_stop_at(const char *name)
{
	char		armed[128];
	char		taken[128];
	char		reached[128];
	char		pid[16];
	int			save_errno = errno;
	int			fd;
	int			length;

	/* a server process works in its data directory */
	snprintf(armed, sizeof(armed), "crm_stops/%s.armed", name);
	snprintf(taken, sizeof(taken), "crm_stops/%s.taken", name);
	snprintf(reached, sizeof(reached), "crm_stops/%s.reached", name);
	if (access(armed, F_OK) == 0 && rename(armed, taken) == 0 &&
		(fd = open(taken, O_WRONLY | O_TRUNC | O_CLOEXEC)) >= 0)
	{
		/* whoever sees it can read the pid */
		length = snprintf(pid, sizeof(pid), "%d", (int) getpid());
		if (write(fd, pid, length) == length && rename(taken, reached) == 0)
		{
			while (access(reached, F_OK) == 0)
				(void) usleep(1000);
		}
		close(fd);
	}
	errno = save_errno;
}

#else

#define CRM_STOP(name) ((void) 0)

#endif

#endif							/* CRM_STOP_H */
