/* Descriptors, memory and streams that release themselves at the end of their scope. */
#ifndef SLURMLET_CLEANUP_H
#define SLURMLET_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd_(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static inline void cleanup_free_(void *pointer)
{
    free(*(void **)pointer);
}

#define cleanup_fd __attribute__((cleanup(cleanup_fd_))) int
#define cleanup_free __attribute__((cleanup(cleanup_free_)))

static inline int take_fd(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

#endif
