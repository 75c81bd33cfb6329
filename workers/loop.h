/*-------------------------------------------------------------------------
 *
 * loop.h
 *	  The one wait: latch, postmaster death and every socket of a transport.
 *
 *-------------------------------------------------------------------------
 */
#ifndef CRM_LOOP_H
#define CRM_LOOP_H

#include "postgres.h"

#include <sys/epoll.h>

/* called with signals blocked; must not throw.  events: EPOLLIN, EPOLLOUT, … */
typedef void (*CrmSocketReady) (int fd, uint32 events);

extern void crm_loop_open(void);

/*
 * Note what is wished of a socket; 0 = nothing for now.  Makes no system call,
 * so a library's call-back may call it at any rate.  False: out of memory.
 */
extern bool crm_loop_want(int fd, uint32 events, CrmSocketReady ready);

/*
 * This socket lives longer than one request, and crm_loop_forget will be called
 * before it is closed: keep it registered while nobody wants it.
 */
extern bool crm_loop_keep(int fd);

/* The descriptor is about to be closed: it leaves the set by itself. */
extern void crm_loop_forget(int fd);

/*
 * Serve what is ready; if nothing is, wait up to timeout_ms (0 = do not wait,
 * -1 = for ever) for a socket, the latch or the postmaster's death, and serve.
 * Number of events served.
 */
extern int	crm_loop_serve(long timeout_ms);

#endif							/* CRM_LOOP_H */
