/*
 * slurmlet-enter: the one way into a pod. It runs as the user, with the user's rights only; what it
 * refuses, the kernel refuses as well.
 *
 *   slurmlet-enter --job=N --pod=NS/POD[:CONTAINER] [--ns=LIST] [--directory=DIR] -- COMMAND...
 *   slurmlet-enter --job=N --anchor [--hostname=NAME]
 *   slurmlet-enter --init [--failure=FD] -- COMMAND...
 */
#include "enter.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: slurmlet-enter --job=N --pod=NAMESPACE/POD[:CONTAINER] [--ns=LIST] [--directory=DIR] "
    "-- COMMAND [ARGUMENT...]\n"
    "       slurmlet-enter --job=N --anchor [--hostname=NAME]\n"
    "       slurmlet-enter --init [--failure=FD] -- COMMAND [ARGUMENT...]\n";

enum {
    JOB = 'j',
    POD = 'p',
    NS = 'n',
    DIRECTORY = 'd',
    ANCHOR = 'a',
    HOSTNAME = 'h',
    INIT = 'i',
    FAILURE = 'f',
};

enum mode { STEP, HOLD, FIRST };

void complain(const char *what, const char *text)
{
    (void)fprintf(stderr, "slurmlet-enter: %s%s%s\n", what, what[0] ? ": " : "", text);
}

static int parse_number(const char *text, uint32_t max, uint32_t *ret_number)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || number == 0 || number > max)
        return -EINVAL;
    *ret_number = (uint32_t)number;
    return 0;
}

/* Whether a mode has what it needs and nothing of another's. */
static bool is_complete(const struct request *request, enum mode mode)
{
    bool has_command = *request->command != NULL, has_target = request->target_text != NULL;

    switch (mode) {
    case STEP:
        return request->job && has_target && has_command && request->failure < 0;
    case HOLD:
        return request->job && !has_target && !has_command && request->failure < 0;
    case FIRST:
        return !request->job && !has_target && has_command;
    }
    return false;
}

static int parse(int argc, char **argv, struct request *request, enum mode *ret_mode)
{
    static const struct option options[] = {
        {"job", required_argument, NULL, JOB},
        {"pod", required_argument, NULL, POD},
        {"ns", required_argument, NULL, NS},
        {"directory", required_argument, NULL, DIRECTORY},
        {"anchor", no_argument, NULL, ANCHOR},
        {"hostname", required_argument, NULL, HOSTNAME},
        {"init", no_argument, NULL, INIT},
        {"failure", required_argument, NULL, FAILURE},
        {NULL, 0, NULL, 0},
    };
    struct slurmlet_message why = {""};
    uint32_t number;
    int option, rc = 0;

    while (rc == 0 && (option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case JOB:
            rc = parse_number(optarg, UINT32_MAX, &request->job);
            break;
        case POD:
            request->target_text = optarg;
            rc = slurmlet_target_parse(optarg, &request->target, &why);
            break;
        case NS:
            rc = slurmlet_left_out_parse(optarg, &request->left_out, &why);
            break;
        case DIRECTORY:
            request->directory = optarg;
            break;
        case ANCHOR:
            *ret_mode = HOLD;
            break;
        case HOSTNAME:
            request->hostname = optarg;
            break;
        case INIT:
            *ret_mode = FIRST;
            break;
        case FAILURE:
            rc = parse_number(optarg, INT_MAX, &number);
            if (rc == 0)
                request->failure = (int)number;
            break;
        default:
            rc = -EINVAL;
        }
    }
    request->command = argv + optind;
    if (rc == 0 && !is_complete(request, *ret_mode))
        rc = -EINVAL;
    if (rc < 0 && why.text[0])
        complain("", why.text);
    else if (rc < 0)
        (void)fputs(usage, stderr);
    return rc;
}

int main(int argc, char **argv)
{
    struct request request = {.failure = -1};
    enum mode mode = STEP;

    if (parse(argc, argv, &request, &mode) < 0)
        return EXIT_REFUSED;
    switch (mode) {
    case STEP:
        return step(&request);
    case HOLD:
        return anchor(&request);
    case FIRST:
        return init(&request);
    }
    return EXIT_REFUSED;
}
