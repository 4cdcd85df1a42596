/* The state of the cluster and its queues of events. */

#include "replica.h"

#define AFFINITY_SLOTS (1 << 20)

enum { OFF, STARTING, ACTIVE, DRAINING, FAILED };
enum { READY, URGENT, STARTED, REPAIRED };
enum { ROUND_ROBIN, LEAST_LOADED, POWER_OF_TWO, PREFIX_AWARE };

typedef struct {
    i64 time, order;
    i32 kind, what;
    i64 more;
} Event;

typedef struct {
    i64 time;
    i32 what;
} Waiting;

typedef struct {
    const Pool *row;
    i32 *active;
    i64 active_count, turn, next_tick, ticks, wanted_count;
    List orphans;
    Waiting *backlog;
    i64 backlog_count, backlog_size;
    i64 *owner_key;
    i32 *owner;
    i64 *loads, *wanted; /* rings of the last observations */
} PoolState;

static Replica *replicas;
static PoolState *pools;
static i32 *queue, *queue_at; /* replicas by (ends, number) */
static i32 *leaving;
static Event *events;
static i64 event_count, event_size, scheduled_events, sent_count, done_count, failures_seen;

/* -- queues of events ----------------------------------------------------------------------------------------------- */

static inline int ends_sooner(i32 a, i32 b) {
    return replicas[a].ends != replicas[b].ends ? replicas[a].ends < replicas[b].ends : a < b;
}

static void requeue(i32 number) {
    i64 count = run->replica_count, at = queue_at[number], other;
    for (; at && ends_sooner(number, queue[other = (at - 1) / 2]); at = other) {
        queue[at] = queue[other];
        queue_at[queue[at]] = (i32)at;
    }
    for (; (other = 2 * at + 1) < count; at = other) {
        if (other + 1 < count && ends_sooner(queue[other + 1], queue[other])) other++;
        if (!ends_sooner(queue[other], number)) break;
        queue[at] = queue[other];
        queue_at[queue[at]] = (i32)at;
    }
    queue[at] = number;
    queue_at[number] = (i32)at;
}

static inline int earlier(const Event *a, const Event *b) {
    return a->time != b->time ? a->time < b->time : a->order < b->order;
}

static void push_event(i64 time, i32 kind, i32 what, i64 more) {
    if (event_count == event_size) events = realloc(events, sizeof(Event) * (size_t)(event_size *= 2));
    Event event = {time, scheduled_events++, kind, what, more};
    i64 at = event_count++;
    for (i64 parent; at && earlier(&event, &events[parent = (at - 1) / 2]); at = parent) events[at] = events[parent];
    events[at] = event;
}

static Event pop_event(void) {
    Event top = events[0], last = events[--event_count];
    i64 at = 0;
    for (i64 child; (child = 2 * at + 1) < event_count; at = child) {
        if (child + 1 < event_count && earlier(&events[child + 1], &events[child])) child++;
        if (!earlier(&events[child], &last)) break;
        events[at] = events[child];
    }
    events[at] = last;
    return top;
}

static inline int more_urgent(Waiting a, Waiting b) { return a.time != b.time ? a.time < b.time : a.what < b.what; }

static void backlog_push(PoolState *pool, Waiting item) {
    if (pool->backlog_count == pool->backlog_size) {
        pool->backlog_size = pool->backlog_size ? 2 * pool->backlog_size : 64;
        pool->backlog = realloc(pool->backlog, sizeof(Waiting) * (size_t)pool->backlog_size);
    }
    Waiting *heap = pool->backlog;
    i64 at = pool->backlog_count++;
    for (i64 parent; at && more_urgent(item, heap[parent = (at - 1) / 2]); at = parent) heap[at] = heap[parent];
    heap[at] = item;
}

static i32 backlog_pop(PoolState *pool) {
    Waiting *heap = pool->backlog, last = heap[pool->backlog_count - 1];
    i32 top = heap[0].what;
    i64 count = --pool->backlog_count, at = 0;
    for (i64 child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && more_urgent(heap[child + 1], heap[child])) child++;
        if (!more_urgent(heap[child], last)) break;
        heap[at] = heap[child];
    }
    heap[at] = last;
    return top;
}
