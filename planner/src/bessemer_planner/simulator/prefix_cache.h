/* Cached hash blocks of one replica: a hash table whose unused entries form a list, least recently used first. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int64_t i64;
typedef uint64_t u64;
typedef int32_t i32;

#define NONE (-1)

typedef struct {
    i64 key;
    i32 references, chain, before, after;
} Entry;

typedef struct {
    Entry *entries;
    i32 *buckets;
    u64 mask;
    i32 capacity, fresh, spare; /* never used ones from `fresh`, given back ones from `spare` */
    i32 oldest, newest;
    i64 referenced, idle;
} Cache;

/* Splitmix64's finaliser. */
static inline u64 mix(u64 value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9ULL;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBULL;
    return value ^ (value >> 31);
}

static void cache_clear(Cache *cache) {
    if (cache->entries) memset(cache->buckets, 0xff, sizeof(i32) * (cache->mask + 1));
    cache->fresh = 0;
    cache->spare = cache->oldest = cache->newest = NONE;
    cache->referenced = cache->idle = 0;
}

static int cache_make(Cache *cache, i64 capacity) {
    u64 size = 16;
    while (size < (u64)capacity) size *= 2;
    cache->mask = size - 1;
    cache->capacity = (i32)capacity;
    cache->entries = malloc(sizeof(Entry) * (size_t)(capacity + 1));
    cache->buckets = malloc(sizeof(i32) * size);
    if (!cache->entries || !cache->buckets) return 1;
    cache_clear(cache);
    return 0;
}

static inline i32 cache_find(const Cache *cache, i64 key) {
    i32 at = cache->buckets[mix((u64)key) & cache->mask];
    while (at != NONE && cache->entries[at].key != key) at = cache->entries[at].chain;
    return at;
}

static inline void cache_unlist(Cache *cache, Entry *entry) {
    if (entry->before == NONE) cache->oldest = entry->after;
    else cache->entries[entry->before].after = entry->after;
    if (entry->after == NONE) cache->newest = entry->before;
    else cache->entries[entry->after].before = entry->before;
    cache->idle--;
}

static inline void cache_take(Cache *cache, i32 at) {
    Entry *entry = &cache->entries[at];
    if (!entry->references++) {
        cache_unlist(cache, entry);
        cache->referenced++;
    }
}

/* A new entry with one reference. */
static inline i32 cache_add(Cache *cache, i64 key) {
    i32 at = cache->spare;
    if (at != NONE) cache->spare = cache->entries[at].chain;
    else at = cache->fresh++;
    i32 *bucket = &cache->buckets[mix((u64)key) & cache->mask];
    cache->entries[at] = (Entry){key, 1, *bucket, NONE, NONE};
    *bucket = at;
    cache->referenced++;
    return at;
}

static inline void cache_drop(Cache *cache, i32 at) {
    Entry *entry = &cache->entries[at];
    if (--entry->references) return;
    cache->referenced--;
    cache->idle++;
    entry->before = cache->newest;
    entry->after = NONE;
    if (cache->newest == NONE) cache->oldest = at;
    else cache->entries[cache->newest].after = at;
    cache->newest = at;
}

static inline void cache_evict(Cache *cache) {
    i32 at = cache->oldest;
    Entry *entry = &cache->entries[at];
    cache_unlist(cache, entry);
    i32 *link = &cache->buckets[mix((u64)entry->key) & cache->mask];
    while (*link != at) link = &cache->entries[*link].chain;
    *link = entry->chain;
    entry->chain = cache->spare;
    cache->spare = at;
}
