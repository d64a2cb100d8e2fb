#ifndef SLURMLET_FILE_H
#define SLURMLET_FILE_H

#include "core.h"

/* A file that the user wrote, opened with the user's rights: no FIFO, link or device does harm, and
 * its size is bounded. Malloc'ed, with a NUL behind it. */
ssize_t slurmlet_file_read(const struct slurmlet_ops *ops, int directory, const char *name,
                           size_t limit, char **ret_text, struct slurmlet_message *why);

#endif
