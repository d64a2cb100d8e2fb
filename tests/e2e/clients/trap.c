/* Leaves a file of whoever loads it. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void leave(void)
{
    char path[] = "/var/tmp/slurmlet-trap/preload.XXXXXX";
    int fd = mkstemp(path);

    if (fd >= 0)
        (void)close(fd);
}
