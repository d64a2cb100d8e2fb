#include "cleanup.h"
#include "core.h"

#include <errno.h>
#include <string.h>

enum { VERSION = 1 };

static bool member_is(const struct slurmlet_token *tokens, int object, const char *name,
                      const char *wanted)
{
    int index = slurmlet_json_member(tokens, object, name);

    return index >= 0 && tokens[index].type == SLURMLET_JSON_STRING &&
           strcmp(tokens[index].string, wanted) == 0;
}

/* A file directly in the sandbox's pod directory. */
static bool is_file_name(const char *text)
{
    return text[0] && text[0] != '.' && !strchr(text, '/') && strlen(text) <= SLURMLET_POD_MAX;
}

static bool container_of(const struct slurmlet_token *tokens, int object,
                         struct slurmlet_hint *hint)
{
    int pid = slurmlet_json_member(tokens, object, "pid");
    int start = slurmlet_json_member(tokens, object, "start");
    int directory = slurmlet_json_member(tokens, object, "directory");
    int environment = slurmlet_json_member(tokens, object, "environment");

    if (pid < 0 || tokens[pid].type != SLURMLET_JSON_INTEGER || tokens[pid].integer < 1 ||
        tokens[pid].integer > INT32_MAX || start < 0 ||
        tokens[start].type != SLURMLET_JSON_INTEGER || tokens[start].integer < 0)
        return false;
    if (directory < 0 || tokens[directory].type != SLURMLET_JSON_STRING ||
        tokens[directory].string[0] != '/' ||
        strlen(tokens[directory].string) >= SLURMLET_PATH_MAX || environment < 0 ||
        tokens[environment].type != SLURMLET_JSON_STRING ||
        !is_file_name(tokens[environment].string))
        return false;
    hint->pid = (int32_t)tokens[pid].integer;
    hint->start = (uint64_t)tokens[start].integer;
    memcpy(hint->directory, tokens[directory].string, strlen(tokens[directory].string) + 1);
    memcpy(hint->environment, tokens[environment].string, strlen(tokens[environment].string) + 1);
    return true;
}

int slurmlet_hint_parse(char *text, size_t size, const struct slurmlet_target *target,
                        struct slurmlet_hint *ret_hint, struct slurmlet_message *why)
{
    cleanup_free struct slurmlet_token *tokens = calloc(SLURMLET_JSON_TOKENS, sizeof(*tokens));
    struct slurmlet_hint hint = {0};
    const char *name = target->container;
    int version, all, one;

    if (!tokens)
        return slurmlet_fail(why, -ENOMEM, "out of memory");
    if (slurmlet_json_parse(text, size, tokens, SLURMLET_JSON_TOKENS) < 0)
        return slurmlet_fail(why, -EINVAL, "the pod's containers.json is no JSON");
    version = slurmlet_json_member(tokens, 0, "version");
    if (version < 0 || tokens[version].type != SLURMLET_JSON_INTEGER ||
        tokens[version].integer != VERSION)
        return slurmlet_fail(why, -EINVAL, "the pod's containers.json is not of version %d",
                             VERSION);
    if (!member_is(tokens, 0, "namespace", target->namespace) ||
        !member_is(tokens, 0, "pod", target->pod))
        return slurmlet_fail(why, -ENOENT, "this job runs another pod");
    if (!name[0]) {
        int standard = slurmlet_json_member(tokens, 0, "default");

        if (standard < 0 || tokens[standard].type != SLURMLET_JSON_STRING)
            return slurmlet_fail(why, -ENOENT, "no container of the pod runs");
        name = tokens[standard].string;
    }
    all = slurmlet_json_member(tokens, 0, "containers");
    if (all < 0 || tokens[all].type != SLURMLET_JSON_OBJECT)
        return slurmlet_fail(why, -EINVAL, "the pod's containers.json lists no containers");
    one = slurmlet_json_member(tokens, all, name);
    if (one == -ENOENT)
        return slurmlet_fail(why, -ENOENT, "the pod has no running container %.80s", name);
    if (one < 0 || tokens[one].type != SLURMLET_JSON_OBJECT || !container_of(tokens, one, &hint))
        return slurmlet_fail(why, -EINVAL, "the pod's containers.json says nonsense of %.80s",
                             name);
    *ret_hint = hint;
    return 0;
}
