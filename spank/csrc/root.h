/* What slurmlet-sandbox does as root; for _core only, never for the plugin or slurmlet-enter. */
#ifndef SLURMLET_ROOT_H
#define SLURMLET_ROOT_H

#include "core.h"

/* Whose namespaces, which (bits 1 << kind, SLURMLET_USER always), and the lines of its id maps. */
struct slurmlet_making {
    uint32_t uid;
    uint32_t gid;
    unsigned int kinds;
    const char *uid_map;
    const char *gid_map;
    /* With one id only, the kernel wants setgroups(2) denied. */
    bool deny_setgroups;
};

/* Makes the namespaces with the user as their owner and pins them on the files of `directory`,
 * which must exist and be called as the kinds are. */
int slurmlet_namespaces_make(const struct slurmlet_making *making, const char *directory,
                             struct slurmlet_pin ret_pins[SLURMLET_KINDS],
                             struct slurmlet_message *why);
/* The user's own small tmpfs. */
int slurmlet_pod_mount(const char *path, uint32_t uid, uint32_t gid);
/* Detaches what is mounted there; 0 also if nothing is. */
int slurmlet_unmount(const char *path);
/* A netlink socket in the network namespace of a file; nothing else of the caller is in there. On
 * the way, low ports and ping are opened to all inside, as container runtimes do: no port of such a
 * namespace is the host's. */
int slurmlet_netlink_open(const char *netns);

#endif
