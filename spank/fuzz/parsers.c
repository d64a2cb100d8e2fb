/*
 * Everything that a user, or a broken root, can hand to a parser. With clang: -fsanitize=fuzzer.
 * Elsewhere -DSTANDALONE: mutates what it begins with, ROUNDS times from SEED.
 */
#include "../csrc/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *text_of(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);

    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slurmlet_target target = {.namespace = "alice", .pod = "web"};
    char host[] = "PATH=/bin", *const own[] = {host, NULL};
    struct slurmlet_message why;
    struct slurmlet_record record;
    struct slurmlet_hint hint;
    unsigned int mask;
    /* Without a NUL behind it, so that reading on is seen. */
    char *exact = malloc(size ? size : 1), *text;

    memcpy(exact, data, size);
    (void)slurmlet_record_parse(exact, size, &record, &why);
    memcpy(exact, data, size);
    (void)slurmlet_hint_parse(exact, size, &target, &hint, &why);
    free(exact);
    text = text_of(data, size);
    (void)slurmlet_left_out_parse(text, &mask, &why);
    (void)slurmlet_is_job_name(text, &target);
    free(slurmlet_srun_programs(text, "/guard"));
    free(slurmlet_environment_merge(own, text, size));
    free(text);
    text = text_of(data, size);
    (void)slurmlet_target_parse(text, &target, &why);
    free(text);
    return 0;
}

#ifdef STANDALONE
static uint64_t next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static const char *const seeds[] = {
    "{\"version\":1,\"job\":12,\"uid\":2001,\"gid\":2001,\"boot\":\"b\",\"namespaces\":{\"user\":"
    "{\"dev\":4,\"ino\":101},\"net\":{\"dev\":4,\"ino\":7}},\"error\":\"\\ud83d\\ude00\"}",
    "{\"version\":1,\"namespace\":\"alice\",\"pod\":\"web\",\"default\":\"main\",\"containers\":{"
    "\"main\":{\"pid\":1,\"start\":2,\"directory\":\"/\",\"environment\":\"main.env\"}}}",
    "alice/web:main",
    "-net,-mnt",
    "0123abcd/alice/web",
    "0 hostname\n1-2 \\\n echo",
};

int main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) | 1 : 88172645463325252ULL;
    uint8_t data[512];

    for (uint64_t i = 0; i < rounds; i++) {
        const char *seed = seeds[next(&state) % (sizeof(seeds) / sizeof(seeds[0]))];
        size_t size = strlen(seed);

        memcpy(data, seed, size);
        for (uint64_t changes = next(&state) % 6; changes > 0; changes--) {
            size_t at = next(&state) % size;

            switch (next(&state) % 4) {
            case 0:
                data[at] = (uint8_t)next(&state);
                break;
            case 1:
                data[at] = (uint8_t)"{}[]\",:\\0/-\n"[next(&state) % 12];
                break;
            case 2:
                memmove(data + at, data + at + 1, size - at - 1);
                size -= size > 1;
                break;
            default:
                if (size + 1 < sizeof(data)) {
                    memmove(data + at + 1, data + at, size - at);
                    size++;
                }
            }
        }
        (void)LLVMFuzzerTestOneInput(data, size);
    }
    (void)printf("%llu rounds\n", (unsigned long long)rounds);
    return 0;
}
#endif
