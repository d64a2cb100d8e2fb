#include "plugin.h"

#include <string.h>

struct options slurmlet_options;

static int reject(const char *message)
{
    slurmlet_options.wrong = true;
    log_error("%s", message);
    return -1;
}

int option_pod(const char *text)
{
    struct slurmlet_message why;

    if (slurmlet_target_parse(text, &slurmlet_options.target, &why) < 0)
        return reject(why.text);
    (void)strncpy(slurmlet_options.pod, text, sizeof(slurmlet_options.pod) - 1);
    return 0;
}

int option_left_out(const char *text)
{
    struct slurmlet_message why;
    unsigned int mask;

    if (slurmlet_left_out_parse(text, &mask, &why) < 0)
        return reject(why.text);
    if (strlen(text) >= sizeof(slurmlet_options.left_out))
        return reject("--k8s-pod-ns: name each namespace once");
    (void)strcpy(slurmlet_options.left_out, text);
    return 0;
}

static int option_sandbox(const char *text)
{
    if (strcmp(text, "net") != 0 && strcmp(text, "host") != 0)
        return reject("--k8s-sandbox: give net or host");
    (void)strcpy(slurmlet_options.sandbox, text);
    return 0;
}

static int on_pod(int value, const char *text, int remote)
{
    (void)value;
    (void)remote;
    return option_pod(text);
}

static int on_left_out(int value, const char *text, int remote)
{
    (void)value;
    (void)remote;
    return option_left_out(text);
}

static int on_sandbox(int value, const char *text, int remote)
{
    (void)value;
    (void)remote;
    return option_sandbox(text);
}

static char pod_name[] = "k8s-pod", pod_value[] = "NS/POD[:CONTAINER]",
            pod_help[] = "run in a pod's running job and join the pod's namespaces",
            left_out_name[] = "k8s-pod-ns", left_out_value[] = "-NS[,-NS...]",
            left_out_help[] =
                "with --k8s-pod: stay out of the pod's net, mnt, pid, ipc, uts or user",
            sandbox_name[] = "k8s-sandbox", sandbox_value[] = "net|host",
            sandbox_help[] = "make a pod sandbox for the job, with or without a network of its own";

static struct spank_option pod_option = {pod_name, pod_value, pod_help, 1, 0, on_pod};
static struct spank_option left_out_option = {left_out_name, left_out_value, left_out_help, 1, 0,
                                              on_left_out};
static struct spank_option sandbox_option = {sandbox_name, sandbox_value, sandbox_help, 1, 0,
                                             on_sandbox};

int options_register(spank_t spank)
{
    struct spank_option *all[] = {&pod_option, &left_out_option, &sandbox_option};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (spank_option_register(spank, all[i]) != ESPANK_SUCCESS) {
            log_error("cannot register --%s", all[i]->name);
            return -1;
        }
    }
    return 0;
}

void options_of_job(spank_t spank)
{
    char *text = NULL;

    if (spank_option_getopt(spank, &sandbox_option, &text) == ESPANK_SUCCESS && text)
        (void)option_sandbox(text);
}
