#include "../csrc/cleanup.h"
#include "enter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int write_file(const char *path, const char *text)
{
    cleanup_fd fd = open(path, O_WRONLY | O_CLOEXEC);
    size_t size = strlen(text);

    return fd >= 0 && write(fd, text, size) == (ssize_t)size ? 0 : -1;
}

/* A user namespace below the pod's, where its root (or whoever the step is) has another number: the
 * kernel allows everyone the map of one id, and of a group's once setgroups(2) is given up. */
int keep_identity(uid_t uid, gid_t gid)
{
    char users[64], groups[64];

    (void)snprintf(users, sizeof(users), "%u %u 1", uid, geteuid());
    (void)snprintf(groups, sizeof(groups), "%u %u 1", gid, getegid());
    if (unshare(CLONE_NEWUSER) < 0)
        return -1;
    if (write_file("/proc/self/uid_map", users) < 0 ||
        write_file("/proc/self/setgroups", "deny") < 0 ||
        write_file("/proc/self/gid_map", groups) < 0)
        return -1;
    /* What the pod has mounted at /proc need not be one. */
    if (geteuid() != uid || getegid() != gid) {
        errno = EPERM;
        return -1;
    }
    return 0;
}
