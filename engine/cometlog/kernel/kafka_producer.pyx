"""A Kafka producer whose records go from bytes objects into librdkafka's queue in one loop, without a call of Python for each.

The library is the one that confluent-kafka brings and has loaded; its functions, part of its documented C interface, are looked up by
name. A Python call and a header list for each record cost more than all that librdkafka does with it.

Thread safety: a Producer belongs to one thread. librdkafka's threads call nothing here: reports of deliveries that failed, and
complaints, are taken by this thread inside ``poll``, ``flush`` and the calls of a transaction, without the GIL. Invariants: every
record carries its number as opaque, so a report names it; what was queued is librdkafka's copy; the handle is destroyed once.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libc.string cimport memcpy, strncpy

cdef extern from "dlfcn.h" nogil:
    void *dlopen(const char *path, int flags)
    void *dlsym(void *library, const char *name)
    int RTLD_NOW, RTLD_NOLOAD

cdef enum:
    PRODUCER = 0
    CONF_OK = 0
    ERROR_QUEUE_FULL = -184
    ERROR_TIMED_OUT = -185
    V_RKT = 2
    V_PARTITION = 3
    V_VALUE = 4
    V_KEY = 5
    V_OPAQUE = 6
    V_MSGFLAGS = 7
    V_TIMESTAMP = 8
    V_HEADER = 9
    MSG_F_COPY = 2
    PURGE_ALL = 3
    FAILURES_KEPT = 4096
    TEXT_BYTES = 512
    ID_BYTES = 512
    DIGITS_MAX = 20
    NS_PER_MS = 1000000

# As rdkafka.h declares them.
ctypedef struct Memory:
    const void *data
    size_t size

ctypedef struct Header:
    const char *name
    const void *value
    Py_ssize_t size

ctypedef union Argument:
    void *pointer
    int number
    int32_t number32
    int64_t number64
    Memory memory
    Header header
    char padding[64]

ctypedef struct TypedArgument:
    int kind
    Argument u

ctypedef struct Message:
    int error
    void *topic
    int32_t partition
    void *payload
    size_t length
    void *key
    size_t key_length
    int64_t offset
    void *opaque

ctypedef struct Failure:
    int64_t number
    int error

ctypedef struct Reports:
    uint64_t failed
    Failure failures[FAILURES_KEPT]
    char complaint[TEXT_BYTES]

ctypedef void *(*NewConf)() noexcept nogil
ctypedef int (*SetConf)(void *, const char *, const char *, char *, size_t) noexcept nogil
ctypedef void (*SetPointer)(void *, void *) noexcept nogil
ctypedef void *(*New)(int, void *, char *, size_t) noexcept nogil
ctypedef void *(*NewTopic)(void *, const char *, void *) noexcept nogil
ctypedef void (*Destroy)(void *) noexcept nogil
ctypedef int (*WithTimeout)(void *, int) noexcept nogil
ctypedef void *(*Transact)(void *) noexcept nogil
ctypedef void *(*TransactWithTimeout)(void *, int) noexcept nogil
ctypedef void *(*Produce)(void *, TypedArgument *, size_t) noexcept nogil
ctypedef int (*ErrorNumber)(const void *) noexcept nogil
ctypedef const char *(*ErrorText)(const void *) noexcept nogil
ctypedef const char *(*CodeText)(int) noexcept nogil

cdef struct Library:
    NewConf conf_new
    SetConf conf_set
    Destroy conf_destroy
    SetPointer set_reports
    SetPointer set_error
    SetPointer set_opaque
    New new
    Destroy destroy
    NewTopic topic_new
    Destroy topic_destroy
    Produce produce
    WithTimeout poll
    WithTimeout flush
    WithTimeout purge
    TransactWithTimeout init_transactions
    Transact begin_transaction
    TransactWithTimeout commit_transaction
    ErrorNumber error_code
    ErrorNumber error_is_retriable
    ErrorText error_text
    Destroy error_destroy
    CodeText code_name
    CodeText code_text

cdef Library lib
cdef bint is_loaded = False


cdef void note_report(void *handle, const Message *message, void *opaque) noexcept nogil:
    """Keep the report of a record that was not delivered; librdkafka is told to report no others."""
    cdef Reports *reports = <Reports *>opaque
    if message.error != 0:
        if reports.failed < FAILURES_KEPT:
            reports.failures[reports.failed].number = <int64_t>message.opaque
            reports.failures[reports.failed].error = message.error
        reports.failed += 1


cdef void note_complaint(void *handle, int code, const char *reason, void *opaque) noexcept nogil:
    strncpy((<Reports *>opaque).complaint, reason, TEXT_BYTES - 1)


cdef void *look_up(void *library, bytes name) except NULL:
    cdef void *found = dlsym(library, b"rd_kafka_" + name)
    if found == NULL:
        raise OSError(f"librdkafka has no function rd_kafka_{name.decode()}")
    return found


def load(path):
    """Look up the functions of the librdkafka at ``path``, which this process has loaded. Raises OSError where it has not."""
    global is_loaded
    cdef void *library
    if is_loaded:
        return
    library = dlopen(path.encode(), RTLD_NOW | RTLD_NOLOAD)
    if library == NULL:
        raise OSError(f"{path} is not loaded")
    lib.conf_new = <NewConf>look_up(library, b"conf_new")
    lib.conf_set = <SetConf>look_up(library, b"conf_set")
    lib.conf_destroy = <Destroy>look_up(library, b"conf_destroy")
    lib.set_reports = <SetPointer>look_up(library, b"conf_set_dr_msg_cb")
    lib.set_error = <SetPointer>look_up(library, b"conf_set_error_cb")
    lib.set_opaque = <SetPointer>look_up(library, b"conf_set_opaque")
    lib.new = <New>look_up(library, b"new")
    lib.destroy = <Destroy>look_up(library, b"destroy")
    lib.topic_new = <NewTopic>look_up(library, b"topic_new")
    lib.topic_destroy = <Destroy>look_up(library, b"topic_destroy")
    lib.produce = <Produce>look_up(library, b"produceva")
    lib.poll = <WithTimeout>look_up(library, b"poll")
    lib.flush = <WithTimeout>look_up(library, b"flush")
    lib.purge = <WithTimeout>look_up(library, b"purge")
    lib.init_transactions = <TransactWithTimeout>look_up(library, b"init_transactions")
    lib.begin_transaction = <Transact>look_up(library, b"begin_transaction")
    lib.commit_transaction = <TransactWithTimeout>look_up(library, b"commit_transaction")
    lib.error_code = <ErrorNumber>look_up(library, b"error_code")
    lib.error_is_retriable = <ErrorNumber>look_up(library, b"error_is_retriable")
    lib.error_text = <ErrorText>look_up(library, b"error_string")
    lib.error_destroy = <Destroy>look_up(library, b"error_destroy")
    lib.code_name = <CodeText>look_up(library, b"err2name")
    lib.code_text = <CodeText>look_up(library, b"err2str")
    is_loaded = True


class ProducerError(Exception):
    """What librdkafka answered. Attributes: ``code`` as in rdkafka.h, ``is_retriable``: the same call may succeed later."""

    def __init__(self, text, code, is_retriable):
        super().__init__(text)
        self.code = code
        self.is_retriable = is_retriable


cdef int check(void *error) except -1:
    """Raise what a call returned, unless that is nothing."""
    cdef int code
    if error == NULL:
        return 0
    code = lib.error_code(error)
    name, text = lib.code_name(code).decode(), lib.error_text(error).decode("utf-8", "replace")
    retriable = lib.error_is_retriable(error) != 0
    lib.error_destroy(error)
    raise ProducerError(f"{name}: {text}", code, retriable)


def code_text(int code):
    """Return the name of an error code of rdkafka.h and what it means."""
    return f"{lib.code_name(code).decode()}: {lib.code_text(code).decode()}"


cdef Py_ssize_t write_number(char *at, uint64_t number) noexcept nogil:
    """Write a number in decimal and return how many digits it has."""
    cdef char digits[DIGITS_MAX]
    cdef Py_ssize_t count = 0, place
    while True:
        digits[count] = <char>(48 + number % 10)
        count += 1
        number //= 10
        if number == 0:
            break
    for place in range(count):
        at[place] = digits[count - 1 - place]
    return count


@cython.final
@cython.no_gc
cdef class Producer:
    """One producer with the properties given, all text. Raises ProducerError for one that librdkafka does not take."""

    cdef void *handle
    cdef Reports reports
    cdef dict topics

    def __cinit__(self, properties):
        cdef char text[TEXT_BYTES]
        cdef void *conf
        if not is_loaded:
            raise OSError("librdkafka is not loaded")
        self.topics = {}
        conf = lib.conf_new()
        for name, value in properties.items():
            if lib.conf_set(conf, name.encode(), value.encode(), text, TEXT_BYTES) != CONF_OK:
                lib.conf_destroy(conf)
                raise ProducerError(f"{name}={value}: {text.decode('utf-8', 'replace')}", 0, False)
        lib.set_reports(conf, <void *>note_report)
        lib.set_error(conf, <void *>note_complaint)
        lib.set_opaque(conf, <void *>&self.reports)
        self.handle = lib.new(PRODUCER, conf, text, TEXT_BYTES)
        if self.handle == NULL:
            lib.conf_destroy(conf)
            raise ProducerError(text.decode("utf-8", "replace"), 0, False)

    def __dealloc__(self):
        self.drop()

    cdef void drop(self) noexcept:
        cdef void *handle = self.handle
        self.handle = NULL
        if handle == NULL:
            return
        for topic in self.topics.values():
            lib.topic_destroy(<void *><uintptr_t>topic)
        with nogil:
            lib.purge(handle, PURGE_ALL)
            lib.poll(handle, 0)
            lib.destroy(handle)

    cdef int check_open(self) except -1:
        if self.handle == NULL:
            raise ValueError("the producer is closed")
        return 0

    cdef void *topic(self, bytes name) except NULL:
        cdef void *found
        known = self.topics.get(name)
        if known is not None:
            return <void *><uintptr_t>known
        found = lib.topic_new(self.handle, name, NULL)
        if found == NULL:
            raise ProducerError(f"the topic {name!r} cannot be used", 0, False)
        self.topics[name] = <uintptr_t>found
        return found

    def produce(
        self, bytes topic not None, int partition, int key_partition, bytes header not None, bytes prefix not None,
        list payloads not None, list keys, list numbers not None, list timestamps_ns not None, Py_ssize_t first,
        int64_t opaque,
    ):
        """Queue the records from index ``first`` on and return the index behind the last one that found room.

        ``key_partition`` is the partition of records that have a key. Each record has one header, named ``header``: ``prefix`` and its
        number. Record ``i`` is ``opaque + i`` in a report.
        """
        cdef TypedArgument given[8]
        cdef char id[ID_BYTES]
        cdef Py_ssize_t place, prefix_bytes = len(prefix), count = len(payloads)
        cdef void *error
        cdef bytes data
        self.check_open()
        if prefix_bytes > ID_BYTES - DIGITS_MAX:
            raise ValueError(f"a prefix has at most {ID_BYTES - DIGITS_MAX} bytes, got {prefix_bytes}")
        if not len(numbers) == len(timestamps_ns) == count or keys is not None and len(keys) != count or first < 0:
            raise ValueError("payloads, keys, numbers and timestamps have one item for each record")
        memcpy(id, PyBytes_AS_STRING(prefix), prefix_bytes)
        given[0].kind, given[0].u.pointer = V_RKT, self.topic(topic)
        given[1].kind, given[1].u.number = V_MSGFLAGS, MSG_F_COPY
        given[2].kind, given[3].kind, given[4].kind = V_PARTITION, V_VALUE, V_TIMESTAMP
        given[5].kind, given[6].kind, given[7].kind = V_HEADER, V_OPAQUE, V_KEY
        given[5].u.header.name, given[5].u.header.value = PyBytes_AS_STRING(header), id
        for place in range(first, count):
            data = payloads[place]
            given[2].u.number32 = partition
            given[3].u.memory.data, given[3].u.memory.size = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
            given[4].u.number64 = <int64_t>(<uint64_t>timestamps_ns[place] // NS_PER_MS)
            given[5].u.header.size = prefix_bytes + write_number(id + prefix_bytes, numbers[place])
            given[6].u.pointer = <void *>(opaque + place)
            given[7].u.memory.data, given[7].u.memory.size = NULL, 0
            if keys is not None and keys[place] is not None:
                data = keys[place]
                given[2].u.number32 = key_partition
                given[7].u.memory.data, given[7].u.memory.size = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
            error = lib.produce(self.handle, given, 8)
            if error != NULL:
                if lib.error_code(error) == ERROR_QUEUE_FULL:
                    lib.error_destroy(error)
                    return place
                check(error)
        return count

    def produce_plain(self, bytes topic not None, int partition, bytes key not None, bytes value not None):
        """Queue one record without a header. Raises ProducerError, also where there is no room."""
        cdef TypedArgument given[6]
        self.check_open()
        given[0].kind, given[0].u.pointer = V_RKT, self.topic(topic)
        given[1].kind, given[1].u.number = V_MSGFLAGS, MSG_F_COPY
        given[2].kind, given[2].u.number32 = V_PARTITION, partition
        given[3].kind, given[3].u.memory.data, given[3].u.memory.size = V_VALUE, PyBytes_AS_STRING(value), len(value)
        given[4].kind, given[4].u.memory.data, given[4].u.memory.size = V_KEY, PyBytes_AS_STRING(key), len(key)
        given[5].kind, given[5].u.pointer = V_OPAQUE, <void *>-1
        check(lib.produce(self.handle, given, 6))

    def poll(self, int timeout_ms):
        """Take reports, waiting at most so long for one."""
        self.check_open()
        with nogil:
            lib.poll(self.handle, timeout_ms)

    def flush(self, int timeout_ms):
        """Wait until everything was delivered or failed; False where the time was too short."""
        cdef int code
        self.check_open()
        with nogil:
            code = lib.flush(self.handle, timeout_ms)
        return code != ERROR_TIMED_OUT

    @property
    def complaint(self):
        """What librdkafka said last of servers that do not answer."""
        return self.reports.complaint.decode("utf-8", "replace")

    def failures(self):
        """Return how many records failed, and (number as in ``produce``, error code) of the first 4096; -1 is one without a header."""
        cdef Py_ssize_t place, kept = min(self.reports.failed, <uint64_t>FAILURES_KEPT)
        if kept == 0:
            return 0, []
        listed = [(self.reports.failures[place].number, self.reports.failures[place].error) for place in range(kept)]
        return self.reports.failed, listed

    def init_transactions(self, int timeout_ms):
        """Take up the transactional id, ending what its last owner left open. Raises ProducerError."""
        cdef void *error
        self.check_open()
        with nogil:
            error = lib.init_transactions(self.handle, timeout_ms)
        check(error)

    def begin_transaction(self):
        """Begin a transaction. Raises ProducerError."""
        self.check_open()
        check(lib.begin_transaction(self.handle))

    def commit_transaction(self, int timeout_ms):
        """Commit the transaction. Raises ProducerError; a retriable one means: call again."""
        cdef void *error
        self.check_open()
        with nogil:
            error = lib.commit_transaction(self.handle, timeout_ms)
        check(error)

    def close(self):
        """Drop what was not delivered and let go. Closing twice is harmless."""
        self.drop()
