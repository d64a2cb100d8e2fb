/*
 * Stands in for the programs of Slurm that load the plugin: exports what they export, loads the
 * shipped file as they do, and calls its hooks in their order. It says on standard output what the
 * plugin did, one line each.
 *
 * HOST_PROGRAM: load, srun, sbatch, slurmd, task (slurmstepd for one task), prolog or epilog;
 * HOST_PLUGIN: the file. The arguments are the client's: [OPTION...] COMMAND...; srun starts itself
 * anew. Jobs that "Slurm" knows are in HOST_JOBS: NAME=ID:STATE, with commas between. Of
 * slurm.conf: HOST_PROLOG_FLAGS, a number, and HOST_NAMESPACES, the plugin that hides mounts from
 * jobs.
 */
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
#include <link.h>
#include <slurm/slurm.h>
#include <slurm/slurm_version.h>
#include <slurm/spank.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPTIONS = 8, JOBS = 8 };

static struct {
    spank_context_t context;
    struct spank_option options[OPTIONS];
    char *given[OPTIONS];
    int count;
    int argc;
    char **argv;
    uint32_t step;
} host;

slurm_conf_t slurm_conf;

spank_context_t spank_context(void)
{
    return host.context;
}

spank_err_t spank_option_register(spank_t spank, struct spank_option *option)
{
    (void)spank;
    if (host.count == OPTIONS)
        return ESPANK_NOSPACE;
    host.options[host.count++] = *option;
    return ESPANK_SUCCESS;
}

spank_err_t spank_option_getopt(spank_t spank, struct spank_option *option, char **value)
{
    const char *text = getenv("HOST_SANDBOX");

    (void)spank;
    if (!text || strcmp(option->name, "k8s-sandbox") != 0)
        return ESPANK_ERROR;
    *value = strdup(text);
    return ESPANK_SUCCESS;
}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    va_list arguments;
    spank_err_t rc = ESPANK_SUCCESS;

    (void)spank;
    va_start(arguments, item);
    switch (item) {
    case S_JOB_ID:
        *va_arg(arguments, uint32_t *) = 12;
        break;
    case S_JOB_UID:
        *va_arg(arguments, uid_t *) = getuid();
        break;
    case S_JOB_GID:
        *va_arg(arguments, gid_t *) = getgid();
        break;
    case S_JOB_STEPID:
        *va_arg(arguments, uint32_t *) = host.step;
        break;
    case S_JOB_ARGV:
        *va_arg(arguments, int *) = host.argc;
        *va_arg(arguments, char ***) = host.argv;
        break;
    default:
        rc = ESPANK_BAD_ARG;
    }
    va_end(arguments);
    return rc;
}

spank_err_t spank_getenv(spank_t spank, const char *name, char *buffer, int size)
{
    const char *value = getenv(name);

    (void)spank;
    if (!value)
        return ESPANK_ENV_NOEXIST;
    if (strlen(value) >= (size_t)size)
        return ESPANK_NOSPACE;
    strcpy(buffer, value);
    return ESPANK_SUCCESS;
}

spank_err_t spank_job_control_setenv(spank_t spank, const char *name, const char *value, int over)
{
    (void)spank;
    (void)over;
    printf("job-control %s=%s\n", name, value);
    return ESPANK_SUCCESS;
}

spank_err_t spank_prepend_task_argv(spank_t spank, int argc, const char *argv[])
{
    (void)spank;
    if (getenv("HOST_NO_PREPEND"))
        return ESPANK_ERROR;
    for (int i = 0; i < argc; i++)
        printf("prepended %s\n", argv[i]);
    return ESPANK_SUCCESS;
}

void slurm_error(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("error ", stdout);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

void slurm_debug2(const char *format, ...)
{
    (void)format;
}

char *slurm_strerror(int number)
{
    return strerror(number);
}

int slurm_load_job_user(job_info_msg_t **ret_jobs, uint32_t uid, uint16_t flags)
{
    char *all = getenv("HOST_JOBS");
    job_info_msg_t *jobs;

    (void)flags;
    printf("asked slurmctld\n");
    fflush(stdout);
    if (!all) {
        errno = ECONNREFUSED;
        return SLURM_ERROR;
    }
    jobs = calloc(1, sizeof(*jobs));
    jobs->job_array = calloc(JOBS, sizeof(*jobs->job_array));
    for (char *one = strtok(strdup(all), ","); one; one = strtok(NULL, ",")) {
        slurm_job_info_t *job = &jobs->job_array[jobs->record_count++];
        char *equals = strchr(one, '='), *colon = strchr(equals, ':');

        *equals = '\0';
        job->name = one;
        job->user_id = uid;
        job->job_id = (uint32_t)atoi(equals + 1);
        job->start_time = job->job_id;
        job->job_state = (uint32_t)atoi(colon + 1);
    }
    *ret_jobs = jobs;
    return SLURM_SUCCESS;
}

void slurm_free_job_info_msg(job_info_msg_t *jobs)
{
    free(jobs->job_array);
    free(jobs);
}

static int call(void *plugin, const char *name)
{
    int (*hook)(spank_t, int, char **) = NULL;
    int rc;

    *(void **)&hook = dlsym(plugin, name);
    if (!hook)
        return 0;
    rc = hook(NULL, 0, NULL);
    if (rc)
        printf("%s returned %d\n", name, rc);
    return rc;
}

/* As the clients do: getopt_long(3) with "+", so that optind ends on the command. */
static void parse(int argc, char **argv, int remote)
{
    struct option longs[OPTIONS + 4] = {{0}};
    int option, index = 0;

    for (int i = 0; i < host.count; i++)
        longs[i] = (struct option){host.options[i].name, host.options[i].has_arg, NULL, 1000 + i};
    longs[host.count] = (struct option){"multi-prog", no_argument, NULL, 1};
    longs[host.count + 1] = (struct option){"jobid", required_argument, NULL, 1};
    longs[host.count + 2] = (struct option){"job-name", required_argument, NULL, 1};
    optind = 0;
    while ((option = getopt_long(argc, argv, "+n:D:", longs, &index)) != -1) {
        if (option >= 1000 && host.options[option - 1000].cb(0, optarg, remote) != 0) {
            printf("option refused\n");
            exit(1);
        }
    }
    host.argc = argc - optind;
    host.argv = argv + optind;
}

static int client(void *plugin, int argc, char **argv)
{
    if (call(plugin, "slurm_spank_init") != 0)
        return 1;
    parse(argc, argv, 0);
    fflush(stdout);
    call(plugin, "slurm_spank_init_post_opt");
    if (host.context == S_CTX_LOCAL)
        call(plugin, "slurm_spank_local_user_init");
    for (int i = 0; i < argc; i++)
        printf("word %s\n", argv[i]);
    for (int i = 0; i < host.argc; i++)
        printf("command %s\n", host.argv[i]);
    for (char **entry = environ; *entry; entry++)
        printf("variable %s\n", *entry);
    return 0;
}

static int task(void *plugin, int argc, char **argv)
{
    const char *step = getenv("HOST_STEP");

    host.step = step ? (uint32_t)strtoul(step, NULL, 0) : 0;
    call(plugin, "slurm_spank_init");
    parse(argc, argv, 1);
    call(plugin, "slurm_spank_init_post_opt");
    fflush(stdout);
    /* Of an `optional` plugin; the task goes on. */
    call(plugin, "slurm_spank_task_init");
    for (int i = 0; i < host.argc; i++)
        printf("runs %s\n", host.argv[i]);
    return 0;
}

static int print_object(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    (void)data;
    if (info->dlpi_name[0])
        printf("object %s\n", info->dlpi_name);
    return 0;
}

/* Slurm's loader takes only what says that it is a SPANK plugin for this release. */
static bool is_accepted(void *plugin)
{
    const char *type = dlsym(plugin, "plugin_type"), *name = dlsym(plugin, "plugin_name");
    const unsigned int *version = dlsym(plugin, "plugin_version");

    if (!type || !name || !version || strcmp(type, "spank") != 0) {
        printf("error not a plugin\n");
        return false;
    }
    if (*version >> 8 != SLURM_VERSION_NUMBER >> 8) {
        printf("error the plugin is for Slurm %u.%02u\n", *version >> 16, *version >> 8 & 0xff);
        return false;
    }
    return true;
}

static void read_conf(void)
{
    const char *flags = getenv("HOST_PROLOG_FLAGS");

    slurm_conf.prolog_flags = flags ? (uint16_t)strtoul(flags, NULL, 0) : 0;
#if SLURM_VERSION_NUMBER < SLURM_VERSION_NUM(25, 11, 0)
    slurm_conf.job_container_plugin = getenv("HOST_NAMESPACES");
#else
    slurm_conf.namespace_plugin = getenv("HOST_NAMESPACES");
#endif
}

int main(int argc, char **argv)
{
    const char *program = getenv("HOST_PROGRAM"), *file = getenv("HOST_PLUGIN");
    void *plugin;
    int rc = 0;

    if (!program || !file)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    plugin = dlopen(file, strcmp(program, "load") == 0 ? RTLD_NOW : RTLD_LAZY);
    if (!plugin) {
        printf("error %s\n", dlerror());
        return 1;
    }
    if (!is_accepted(plugin))
        return 1;
    read_conf();
    if (strcmp(program, "load") == 0)
        (void)dl_iterate_phdr(print_object, NULL);
    if (strcmp(program, "srun") == 0 || strcmp(program, "sbatch") == 0) {
        host.context = strcmp(program, "srun") == 0 ? S_CTX_LOCAL : S_CTX_ALLOCATOR;
        rc = client(plugin, argc, argv);
    } else if (strcmp(program, "task") == 0) {
        host.context = S_CTX_REMOTE;
        rc = task(plugin, argc, argv);
    } else if (strcmp(program, "slurmd") == 0) {
        host.context = S_CTX_SLURMD;
        rc = call(plugin, "slurm_spank_init");
    } else if (strcmp(program, "prolog") == 0 || strcmp(program, "epilog") == 0) {
        host.context = S_CTX_JOB_SCRIPT;
        rc = call(plugin, strcmp(program, "prolog") == 0 ? "slurm_spank_job_prolog"
                                                         : "slurm_spank_job_epilog");
    }
    printf("end %d\n", rc);
    return rc;
}
