/*
 * slurmlet-enter: the one way into a pod. It runs as the user, with the user's rights only; what it
 * refuses, the kernel refuses as well.
 *
 *   slurmlet-enter --job=N --pod=NS/POD[:CONTAINER] [--ns=LIST] [--directory=DIR] -- COMMAND...
 *   slurmlet-enter --job=N --anchor [--hostname=NAME]
 */
#include "enter.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: slurmlet-enter --job=N --pod=NAMESPACE/POD[:CONTAINER] [--ns=LIST] [--directory=DIR] "
    "-- COMMAND [ARGUMENT...]\n"
    "       slurmlet-enter --job=N --anchor [--hostname=NAME]\n";

enum { JOB = 'j', POD = 'p', NS = 'n', DIRECTORY = 'd', ANCHOR = 'a', HOSTNAME = 'h' };

void complain(const char *what, const char *text)
{
    (void)fprintf(stderr, "slurmlet-enter: %s%s%s\n", what, what[0] ? ": " : "", text);
}

static int parse_job(const char *text, uint32_t *ret_job)
{
    char *end;
    unsigned long number;

    errno = 0;
    number = strtoul(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || number == 0 || number > UINT32_MAX)
        return -EINVAL;
    *ret_job = (uint32_t)number;
    return 0;
}

static int parse(int argc, char **argv, struct request *request, bool *ret_anchor)
{
    static const struct option options[] = {
        {"job", required_argument, NULL, JOB},
        {"pod", required_argument, NULL, POD},
        {"ns", required_argument, NULL, NS},
        {"directory", required_argument, NULL, DIRECTORY},
        {"anchor", no_argument, NULL, ANCHOR},
        {"hostname", required_argument, NULL, HOSTNAME},
        {NULL, 0, NULL, 0},
    };
    struct slurmlet_message why = {""};
    int option, rc = 0;

    while (rc == 0 && (option = getopt_long(argc, argv, "+", options, NULL)) != -1) {
        switch (option) {
        case JOB:
            rc = parse_job(optarg, &request->job);
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
            *ret_anchor = true;
            break;
        case HOSTNAME:
            request->hostname = optarg;
            break;
        default:
            rc = -EINVAL;
        }
    }
    request->command = argv + optind;
    if (rc == 0 && (!request->job || *ret_anchor == (request->target_text != NULL) ||
                    *ret_anchor == (*request->command != NULL)))
        rc = -EINVAL;
    if (rc < 0 && why.text[0])
        complain("", why.text);
    else if (rc < 0)
        (void)fputs(usage, stderr);
    return rc;
}

int main(int argc, char **argv)
{
    struct request request = {0};
    bool is_anchor = false;

    if (parse(argc, argv, &request, &is_anchor) < 0)
        return EXIT_REFUSED;
    return is_anchor ? anchor(&request) : step(&request);
}
