#include "core.h"

#include <stdlib.h>
#include <string.h>

static bool begins(const char *entry, const char *prefix)
{
    return strncmp(entry, prefix, strlen(prefix)) == 0;
}

/* What Slurm, its MPI plugins and its device plugins tell a step. */
bool slurmlet_is_kept_variable(const char *entry)
{
    static const char *const prefixes[] = {
        "SLURM_",
        "SLURMD_",
        "SLURMLET_",
        "SRUN_",
        "SPANK_",
        "PMI",
        "CUDA_VISIBLE_DEVICES=",
        "GPU_DEVICE_ORDINAL=",
        "ROCR_VISIBLE_DEVICES=",
        "ZE_AFFINITY_MASK=",
    };

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (begins(entry, prefixes[i]))
            return true;
    }
    return false;
}

/* What is true of the host's file system only. */
static bool is_of_host(const char *entry)
{
    return begins(entry, "LD_") || begins(entry, "GLIBC_TUNABLES=") || begins(entry, "TMPDIR=") ||
           begins(entry, "PWD=") || begins(entry, "OLDPWD=") || begins(entry, "BASH_ENV=") ||
           begins(entry, "ENV=");
}

static bool is_entry(const char *entry)
{
    const char *equals = strchr(entry, '=');

    return equals && equals != entry;
}

static size_t name_length(const char *entry)
{
    return (size_t)(strchr(entry, '=') - entry) + 1;
}

char **slurmlet_environment_merge(char *const *own, char *pod, size_t size)
{
    size_t count = 1, used = 0, from_pod;
    char **merged;

    for (size_t at = 0; at < size; at += strlen(pod + at) + 1)
        count++;
    for (char *const *entry = own; *entry; entry++)
        count++;
    merged = calloc(count, sizeof(*merged));
    if (!merged)
        return NULL;
    for (size_t at = 0; at < size; at += strlen(pod + at) + 1) {
        if (is_entry(pod + at) && !slurmlet_is_kept_variable(pod + at))
            merged[used++] = pod + at;
    }
    from_pod = used;
    for (char *const *entry = own; *entry; entry++) {
        bool known = !is_entry(*entry) || is_of_host(*entry);

        for (size_t i = 0; i < from_pod && !known; i++)
            known = strncmp(merged[i], *entry, name_length(*entry)) == 0;
        if (!known)
            merged[used++] = *entry;
    }
    return merged;
}
