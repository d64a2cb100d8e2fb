#include "core.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A sandbox has some forty tokens, a CNI result at most what slurmlet-sandbox lets through. */
enum { TOKENS = 1024, VERSION = 1 };

static int number(const struct slurmlet_token *tokens, int object, const char *name, uint64_t limit,
                  uint64_t *ret_number)
{
    int index = slurmlet_json_member(tokens, object, name);

    if (index < 0)
        return index;
    if (tokens[index].type != SLURMLET_JSON_INTEGER || tokens[index].integer < 0 ||
        (uint64_t)tokens[index].integer > limit)
        return -EINVAL;
    *ret_number = (uint64_t)tokens[index].integer;
    return 0;
}

static int text_of(const struct slurmlet_token *tokens, int object, const char *name,
                   char *ret_text, size_t size)
{
    int index = slurmlet_json_member(tokens, object, name);

    if (index < 0)
        return index;
    if (tokens[index].type != SLURMLET_JSON_STRING || strlen(tokens[index].string) >= size)
        return -EINVAL;
    memcpy(ret_text, tokens[index].string, strlen(tokens[index].string) + 1);
    return 0;
}

static int pins_of(const struct slurmlet_token *tokens, struct slurmlet_record *record)
{
    int all = slurmlet_json_member(tokens, 0, "namespaces");

    if (all < 0 || tokens[all].type != SLURMLET_JSON_OBJECT)
        return -EINVAL;
    for (int kind = 0; kind < SLURMLET_KINDS; kind++) {
        struct slurmlet_pin *pin = &record->pins[kind];
        int one = slurmlet_json_member(tokens, all, slurmlet_kind_name(kind));

        if (one == -ENOENT)
            continue;
        if (one < 0 || number(tokens, one, "dev", INT64_MAX, &pin->device) < 0 ||
            number(tokens, one, "ino", INT64_MAX, &pin->inode) < 0)
            return -EINVAL;
        pin->present = true;
    }
    return 0;
}

int slurmlet_record_parse(char *text, size_t size, struct slurmlet_record *ret_record,
                          struct slurmlet_message *why)
{
    struct slurmlet_token tokens[TOKENS];
    struct slurmlet_record record = {0};
    uint64_t version, job, uid, gid;
    int rc = slurmlet_json_parse(text, size, tokens, TOKENS);

    if (rc < 0)
        return slurmlet_fail(why, -EINVAL, "the sandbox's record is no JSON");
    if (number(tokens, 0, "version", UINT32_MAX, &version) < 0 || version != VERSION)
        return slurmlet_fail(why, -EINVAL, "the sandbox's record is not of version %d", VERSION);
    if (number(tokens, 0, "job", UINT32_MAX, &job) < 0 ||
        number(tokens, 0, "uid", UINT32_MAX, &uid) < 0 ||
        number(tokens, 0, "gid", UINT32_MAX, &gid) < 0 ||
        text_of(tokens, 0, "boot", record.boot, sizeof(record.boot)) < 0)
        return slurmlet_fail(why, -EINVAL, "the sandbox's record lacks job, uid, gid or boot");
    rc = text_of(tokens, 0, "error", record.error, sizeof(record.error));
    if (rc == -ENOENT)
        rc = pins_of(tokens, &record);
    if (rc < 0)
        return slurmlet_fail(why, -EINVAL, "the sandbox's record names no namespaces");
    if (!record.error[0] && !record.pins[SLURMLET_USER].present)
        return slurmlet_fail(why, -EINVAL, "the sandbox's record names no user namespace");
    record.job = (uint32_t)job;
    record.uid = (uint32_t)uid;
    record.gid = (uint32_t)gid;
    *ret_record = record;
    return 0;
}
