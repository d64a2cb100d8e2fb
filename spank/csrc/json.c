#include "core.h"

#include <errno.h>
#include <string.h>

struct reader {
    char *at;
    const char *end;
    struct slurmlet_token *tokens;
    int capacity;
    int count;
};

static int value(struct reader *reader, int depth);

static void skip_space(struct reader *reader)
{
    while (reader->at < reader->end && strchr(" \t\n\r", *reader->at) && *reader->at)
        reader->at++;
}

static bool take(struct reader *reader, char wanted)
{
    skip_space(reader);
    if (reader->at == reader->end || *reader->at != wanted)
        return false;
    reader->at++;
    return true;
}

static int push(struct reader *reader, int type)
{
    if (reader->count == reader->capacity)
        return -E2BIG;
    reader->tokens[reader->count] = (struct slurmlet_token){.type = type};
    return reader->count++;
}

static int word(struct reader *reader, const char *text, int type)
{
    size_t length = strlen(text);
    int index;

    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, text, length) != 0)
        return -EINVAL;
    reader->at += length;
    index = push(reader, type);
    return index < 0 ? index : 0;
}

static int integer(struct reader *reader)
{
    bool negative = false;
    uint64_t limit = INT64_MAX, number = 0;
    const char *first;
    int index;

    if (*reader->at == '-') {
        negative = true;
        limit++;
        reader->at++;
    }
    first = reader->at;
    while (reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9') {
        unsigned int digit = (unsigned int)(*reader->at - '0');

        if (number > (limit - digit) / 10)
            return -EINVAL;
        number = number * 10 + digit;
        reader->at++;
    }
    if (reader->at == first || (*first == '0' && reader->at - first > 1))
        return -EINVAL;
    index = push(reader, SLURMLET_JSON_INTEGER);
    if (index < 0)
        return index;
    reader->tokens[index].integer = negative ? (int64_t)(0 - number) : (int64_t)number;
    return 0;
}

static int hex4(struct reader *reader, uint32_t *ret_code)
{
    uint32_t code = 0;

    if (reader->end - reader->at < 4)
        return -EINVAL;
    for (int i = 0; i < 4; i++) {
        char c = *reader->at++;

        code <<= 4;
        if (c >= '0' && c <= '9')
            code |= (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            code |= (uint32_t)(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F')
            code |= (uint32_t)(c - 'A' + 10);
        else
            return -EINVAL;
    }
    *ret_code = code;
    return 0;
}

/* An escape is never shorter than its UTF-8, so the text can be rewritten in place. */
static char *put_utf8(char *to, uint32_t code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | (code >> 6));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | (code >> 12));
        *to++ = (char)(0x80 | ((code >> 6) & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | (code >> 18));
        *to++ = (char)(0x80 | ((code >> 12) & 0x3f));
        *to++ = (char)(0x80 | ((code >> 6) & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

static int unicode(struct reader *reader, char **to)
{
    uint32_t code, low;

    if (hex4(reader, &code) < 0 || code == 0)
        return -EINVAL;
    if (code >= 0xdc00 && code <= 0xdfff)
        return -EINVAL;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (reader->end - reader->at < 2 || memcmp(reader->at, "\\u", 2) != 0)
            return -EINVAL;
        reader->at += 2;
        if (hex4(reader, &low) < 0 || low < 0xdc00 || low > 0xdfff)
            return -EINVAL;
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    *to = put_utf8(*to, code);
    return 0;
}

static int string(struct reader *reader)
{
    static const char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    char *start, *to;
    int index;

    if (!take(reader, '"'))
        return -EINVAL;
    start = to = reader->at;
    for (;;) {
        char c;

        if (reader->at == reader->end)
            return -EINVAL;
        c = *reader->at++;
        if (c == '"')
            break;
        if ((unsigned char)c < 0x20)
            return -EINVAL;
        if (c != '\\') {
            *to++ = c;
            continue;
        }
        if (reader->at == reader->end)
            return -EINVAL;
        c = *reader->at++;
        if (c == 'u') {
            if (unicode(reader, &to) < 0)
                return -EINVAL;
        } else {
            const char *found = c ? strchr(from, c) : NULL;

            if (!found)
                return -EINVAL;
            *to++ = into[found - from];
        }
    }
    index = push(reader, SLURMLET_JSON_STRING);
    if (index < 0)
        return index;
    /* At the latest in the place of the closing quotation mark. */
    *to = '\0';
    reader->tokens[index].string = start;
    return 0;
}

static int members(struct reader *reader, char last, int depth)
{
    if (take(reader, last))
        return 0;
    do {
        int rc;

        if (last == '}') {
            rc = string(reader);
            if (rc < 0)
                return rc;
            if (!take(reader, ':'))
                return -EINVAL;
            reader->tokens[reader->count - 1].next = reader->count;
        }
        rc = value(reader, depth + 1);
        if (rc < 0)
            return rc;
    } while (take(reader, ','));
    return take(reader, last) ? 0 : -EINVAL;
}

static int container(struct reader *reader, int depth)
{
    bool object = *reader->at == '{';
    int index = push(reader, object ? SLURMLET_JSON_OBJECT : SLURMLET_JSON_ARRAY);

    if (index < 0)
        return index;
    if (depth == SLURMLET_JSON_DEPTH)
        return -E2BIG;
    reader->at++;
    return members(reader, object ? '}' : ']', depth);
}

static int value(struct reader *reader, int depth)
{
    int index = reader->count;
    int rc;

    skip_space(reader);
    if (reader->at == reader->end)
        return -EINVAL;
    switch (*reader->at) {
    case '{':
    case '[':
        rc = container(reader, depth);
        break;
    case '"':
        rc = string(reader);
        break;
    case 't':
        rc = word(reader, "true", SLURMLET_JSON_TRUE);
        break;
    case 'f':
        rc = word(reader, "false", SLURMLET_JSON_FALSE);
        break;
    case 'n':
        rc = word(reader, "null", SLURMLET_JSON_NULL);
        break;
    default:
        rc = integer(reader);
    }
    if (rc == 0)
        reader->tokens[index].next = reader->count;
    return rc;
}

int slurmlet_json_parse(char *text, size_t size, struct slurmlet_token *tokens, int capacity)
{
    struct reader reader = {.at = text, .end = text + size, .tokens = tokens, .capacity = capacity};
    int rc = value(&reader, 0);

    if (rc < 0)
        return rc;
    skip_space(&reader);
    return reader.at == reader.end ? reader.count : -EINVAL;
}

int slurmlet_json_member(const struct slurmlet_token *tokens, int object, const char *name)
{
    int found = -ENOENT;

    if (tokens[object].type != SLURMLET_JSON_OBJECT)
        return -EINVAL;
    for (int key = object + 1; key < tokens[object].next; key = tokens[key + 1].next) {
        if (strcmp(tokens[key].string, name) != 0)
            continue;
        if (found >= 0)
            return -EINVAL;
        found = key + 1;
    }
    return found;
}
