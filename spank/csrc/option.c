#include "core.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const kind_names[SLURMLET_KINDS] = {
    [SLURMLET_USER] = "user", [SLURMLET_IPC] = "ipc", [SLURMLET_UTS] = "uts",
    [SLURMLET_NET] = "net",   [SLURMLET_PID] = "pid", [SLURMLET_MNT] = "mnt",
};

int slurmlet_fail(struct slurmlet_message *why, int error, const char *format, ...)
{
    va_list arguments;

    if (why) {
        va_start(arguments, format);
        (void)vsnprintf(why->text, sizeof(why->text), format, arguments);
        va_end(arguments);
    }
    return error;
}

const char *slurmlet_kind_name(int kind)
{
    return kind >= 0 && kind < SLURMLET_KINDS ? kind_names[kind] : "?";
}

/* A DNS label, or labels with dots between them; Kubernetes' names are such. */
static bool is_name(const char *text, size_t length, size_t limit, bool dots)
{
    if (length == 0 || length > limit)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool inner = i > 0 && i + 1 < length;

        if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
            continue;
        if (inner && c == '-' && (text[i - 1] != '.' || !dots))
            continue;
        if (inner && dots && c == '.' && text[i - 1] != '.' && text[i - 1] != '-')
            continue;
        return false;
    }
    return true;
}

static void copy(char *to, const char *from, size_t length)
{
    memcpy(to, from, length);
    to[length] = '\0';
}

int slurmlet_target_parse(const char *text, struct slurmlet_target *ret_target,
                          struct slurmlet_message *why)
{
    struct slurmlet_target target = {0};
    const char *slash = strchr(text, '/');
    const char *colon = slash ? strchr(slash, ':') : NULL;
    size_t namespace, pod, container;

    if (!slash)
        goto bad;
    namespace = (size_t)(slash - text);
    pod = colon ? (size_t)(colon - slash - 1) : strlen(slash + 1);
    container = colon ? strlen(colon + 1) : 0;
    if (!is_name(text, namespace, SLURMLET_NAMESPACE_MAX, false) ||
        !is_name(slash + 1, pod, SLURMLET_POD_MAX, true) ||
        (colon && !is_name(colon + 1, container, SLURMLET_CONTAINER_MAX, false)))
        goto bad;
    copy(target.namespace, text, namespace);
    copy(target.pod, slash + 1, pod);
    if (colon)
        copy(target.container, colon + 1, container);
    *ret_target = target;
    return 0;
bad:
    return slurmlet_fail(why, -EINVAL,
                         "--k8s-pod=%.80s: give NAMESPACE/POD or NAMESPACE/POD:CONTAINER", text);
}

int slurmlet_left_out_parse(const char *text, unsigned int *ret_mask, struct slurmlet_message *why)
{
    unsigned int mask = 0;
    const char *at = text;

    for (;;) {
        size_t length = strcspn(at, ",");
        int kind = 0;

        while (kind < SLURMLET_KINDS && (*at != '-' || length != strlen(kind_names[kind]) + 1 ||
                                         strncmp(at + 1, kind_names[kind], length - 1) != 0))
            kind++;
        if (kind == SLURMLET_KINDS)
            return slurmlet_fail(why, -EINVAL,
                                 "--k8s-pod-ns=%.80s: list what to leave out, of -net, -mnt, -pid, "
                                 "-ipc, -uts and -user, with commas between",
                                 text);
        mask |= 1U << kind;
        if (at[length] == '\0')
            break;
        at += length + 1;
    }
    *ret_mask = mask;
    return 0;
}

bool slurmlet_is_job_name(const char *name, const struct slurmlet_target *target)
{
    size_t namespace = strlen(target->namespace);

    for (int i = 0; i < 8; i++) {
        if (!((name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'f')))
            return false;
    }
    name += 8;
    if (*name++ != '/' || strncmp(name, target->namespace, namespace) != 0)
        return false;
    name += namespace;
    return *name == '/' && strcmp(name + 1, target->pod) == 0;
}
