"""Which verdict each of ClickHouse's error codes gets, with the remedy in words.

Numbers and names are those of ClickHouse's `src/Common/ErrorCodes.cpp`, which never reuses a number; a test
holds this table against a current engine. A code that is not here is STOP: retrying what nobody understood
hides it, and skipping rows for it loses them. [R1, R2]
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc.errors import Meaning, Relief


@dataclass(frozen=True, slots=True)
class ErrorVerdict:
    """What to do about an error, and what a person can do about it."""

    meaning: Meaning
    remedy: str


def _retry(remedy: str) -> ErrorVerdict:
    return ErrorVerdict(Meaning.RETRY, remedy)


def _poison(remedy: str) -> ErrorVerdict:
    return ErrorVerdict(Meaning.POISON, remedy)


def _stop(remedy: str) -> ErrorVerdict:
    return ErrorVerdict(Meaning.STOP, remedy)


NETWORK = _retry("It is tried again; check that the server runs and that the network path to it is open")
SLOW = _retry(
    "It is tried again; if it persists, look at the server's load or raise the timeouts in [target]"
)
BUSY = _retry("It is tried again, more slowly; if it persists, give the server more memory or fewer queries")
PARTS = _retry(
    "It is tried again, more slowly; if it persists, raise linger_ms and batch_size in [sync], partition less"
)
QUOTA = _retry("It is tried again until the quota's interval is over; raise the quota if it persists")
DISK = _retry("It is tried again; free or add disk space on the server, and see its log for the file named")
KEEPER = _retry("It is tried again; check the server's Keeper and its replicas")
LEAVING = _retry("It is tried again once the server is back")
ADDRESS = _retry("It is tried again; check the host name in the endpoint")
DATA = _poison("The rows at fault go to failed_syncs; correct them, or the table's type or constraint")
PARTITIONS = _poison("The batch is sent in smaller pieces; choose a coarser partition_by")
LOGIN = _stop(
    "Check clickhouse_user and clickhouse_password of [auth] in secrets.toml, a user named by the endpoint "
    "or by [target] user, and the hosts that this user may come from"
)
GRANT = _stop("Grant this user the missing right: 'cdc schema grants USER' prints what it needs")
MISSING = _stop("Run 'cdc schema apply', or set auto_create = true in [target]")
SCHEMA = _stop("Run 'cdc schema diff' to see how the table differs, then 'cdc schema apply'")
READONLY = _stop("Use a user that may insert, or set readonly = 0 for this one on the server")
SETTING = _stop("Correct or remove the setting in [target] engine_settings, or allow it for the user")
QUERY = _stop("The server does not understand or support this statement; report it with the server's version")
REPLICA = _stop("An administrator must restore the table on the server")
LIMIT = _stop("Raise the limit that the server names, for this user")
PORT = _stop("Check scheme and port of the endpoint: 9000 and 9440 speak native, 8123 and 8443 HTTP")
PATH = _stop("Check host, port and path of the endpoint: no ClickHouse answers there")
TLS = _stop("Check ca_file, cert_file, key_file and the server's name in [target]")
HUNG_UP = _retry(
    "It is tried again; if it persists, the server wants a client certificate: set cert_file and key_file in "
    "[target]"
)
CLIENT_CERTIFICATE = _stop("The server wants a client certificate: set cert_file and key_file in [target]")
FILE = _stop("Check that the file named exists and that this user may read it")
UNKNOWN = _stop("It is not known to be temporary, so nothing is retried or skipped; see the server's log")

_TABLE: tuple[tuple[ErrorVerdict, str], ...] = (
    (
        NETWORK,  # the first four: the stream was cut or damaged on its way; 1000: the server's own sockets
        """3 UNEXPECTED_END_OF_FILE  32 ATTEMPT_TO_READ_AFTER_EOF  33 CANNOT_READ_ALL_DATA
        40 CHECKSUM_DOESNT_MATCH  86 RECEIVED_ERROR_FROM_REMOTE_IO_SERVER  95 CANNOT_READ_FROM_SOCKET
        96 CANNOT_WRITE_TO_SOCKET  198 DNS_ERROR  203 NO_FREE_CONNECTION  210 NETWORK_ERROR
        279 ALL_CONNECTION_TRIES_FAILED  519 NO_REMOTE_SHARD_AVAILABLE  1000 POCO_EXCEPTION""",
    ),
    (
        SLOW,
        """159 TIMEOUT_EXCEEDED  160 TOO_SLOW  209 SOCKET_TIMEOUT  473 DEADLOCK_AVOIDED""",
    ),
    (
        BUSY,  # 1001: bad_alloc, and the system calls that failed for want of something
        """173 CANNOT_ALLOCATE_MEMORY  202 TOO_MANY_SIMULTANEOUS_QUERIES  241 MEMORY_LIMIT_EXCEEDED
        373 SESSION_IS_LOCKED  439 CANNOT_SCHEDULE_TASK  700 USER_SESSION_LIMIT_EXCEEDED
        745 SERVER_OVERLOADED  749 TCP_CONNECTION_LIMIT_REACHED  762 HTTP_CONNECTION_LIMIT_REACHED
        776 RESOURCE_LIMIT_EXCEEDED  1001 STD_EXCEPTION""",
    ),
    (PARTS, "252 TOO_MANY_PARTS  574 DISTRIBUTED_TOO_MANY_PENDING_BYTES  692 TOO_MANY_MUTATIONS"),
    (QUOTA, "201 QUOTA_EXCEEDED"),
    (
        DISK,
        """24 CANNOT_WRITE_TO_OSTREAM  74 CANNOT_READ_FROM_FILE_DESCRIPTOR
        75 CANNOT_WRITE_TO_FILE_DESCRIPTOR  76 CANNOT_OPEN_FILE  77 CANNOT_CLOSE_FILE
        172 CANNOT_CREATE_DIRECTORY  204 CANNOT_FSYNC  214 CANNOT_STATVFS  243 NOT_ENOUGH_SPACE
        425 SYSTEM_ERROR  499 S3_ERROR  586 CANNOT_CREATE_FILE  693 AWS_ERROR""",
    ),
    (
        KEEPER,  # 242: a replica is read-only until its Keeper session is back
        """225 NO_ZOOKEEPER  242 TABLE_IS_READ_ONLY  244 UNEXPECTED_ZOOKEEPER_ERROR  254 NO_ACTIVE_REPLICAS
        265 NO_AVAILABLE_REPLICA  285 TOO_FEW_LIVE_REPLICAS  286 UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE
        289 REPLICA_IS_NOT_IN_QUORUM  319 UNKNOWN_STATUS_OF_INSERT  341 UNFINISHED
        369 ALL_REPLICAS_ARE_STALE  416 REPLICA_STATUS_CHANGED  529 NOT_A_LEADER
        571 DATABASE_REPLICATION_FAILED  733 TABLE_IS_BEING_RESTARTED  999 KEEPER_EXCEPTION""",
    ),
    (LEAVING, "236 ABORTED  394 QUERY_WAS_CANCELLED  735 QUERY_WAS_CANCELLED_BY_CLIENT  763 SESSION_REFUSED"),
    (
        DATA,  # 395: throwIf in a materialized view, which is how a server without constraints refuses a row
        """6 CANNOT_PARSE_TEXT  25 CANNOT_PARSE_ESCAPE_SEQUENCE  26 CANNOT_PARSE_QUOTED_STRING
        27 CANNOT_PARSE_INPUT_ASSERTION_FAILED  38 CANNOT_PARSE_DATE  41 CANNOT_PARSE_DATETIME
        69 ARGUMENT_OUT_OF_BOUND  70 CANNOT_CONVERT_TYPE  72 CANNOT_PARSE_NUMBER  117 INCORRECT_DATA
        128 TOO_LARGE_ARRAY_SIZE  131 TOO_LARGE_STRING_SIZE  153 ILLEGAL_DIVISION
        190 SIZES_OF_ARRAYS_DONT_MATCH  321 VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349 CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN  376 CANNOT_PARSE_UUID
        395 FUNCTION_THROW_IF_VALUE_IS_NON_ZERO  407 DECIMAL_OVERFLOW  467 CANNOT_PARSE_BOOL
        469 VIOLATED_CONSTRAINT  675 CANNOT_PARSE_IPV4  676 CANNOT_PARSE_IPV6  691 UNKNOWN_ELEMENT_OF_ENUM""",
    ),
    (
        LOGIN,
        """192 UNKNOWN_USER  193 WRONG_PASSWORD  194 REQUIRED_PASSWORD  195 IP_ADDRESS_NOT_ALLOWED
        516 AUTHENTICATION_FAILED  720 USER_EXPIRED""",
    ),
    (GRANT, "291 DATABASE_ACCESS_DENIED  497 ACCESS_DENIED  511 UNKNOWN_ROLE"),
    (MISSING, "60 UNKNOWN_TABLE  81 UNKNOWN_DATABASE  218 TABLE_IS_DROPPED"),
    (
        SCHEMA,  # facts about columns: every row of every batch would be refused, so no row is poison
        """7 INCORRECT_NUMBER_OF_COLUMNS  8 THERE_IS_NO_COLUMN  10 NOT_FOUND_COLUMN_IN_BLOCK
        15 DUPLICATE_COLUMN  16 NO_SUCH_COLUMN_IN_TABLE  20 NUMBER_OF_COLUMNS_DOESNT_MATCH
        44 ILLEGAL_COLUMN  47 UNKNOWN_IDENTIFIER  50 UNKNOWN_TYPE  53 TYPE_MISMATCH
        122 INCOMPATIBLE_COLUMNS  352 AMBIGUOUS_COLUMN_NAME""",
    ),
    (READONLY, "164 READONLY  774 TABLE_IS_PERMANENTLY_READ_ONLY"),
    (SETTING, "115 UNKNOWN_SETTING  452 SETTING_CONSTRAINT_VIOLATION  471 INVALID_SETTING_VALUE"),
    (
        QUERY,
        """36 BAD_ARGUMENTS  46 UNKNOWN_FUNCTION  48 NOT_IMPLEMENTED  56 UNKNOWN_STORAGE  62 SYNTAX_ERROR
        344 SUPPORT_IS_DISABLED  392 QUERY_IS_PROHIBITED""",
    ),
    (REPLICA, "253 REPLICA_ALREADY_EXISTS  415 ALL_REPLICAS_LOST"),
    (
        LIMIT,
        """158 TOO_MANY_ROWS  229 QUERY_IS_TOO_LARGE  290 LIMIT_EXCEEDED  307 TOO_MANY_BYTES
        396 TOO_MANY_ROWS_OR_BYTES  724 TOO_MANY_TABLES  725 TOO_MANY_DATABASES""",
    ),
    (
        PORT,
        """99 UNKNOWN_PACKET_FROM_CLIENT  100 UNKNOWN_PACKET_FROM_SERVER  101 UNEXPECTED_PACKET_FROM_CLIENT
        102 UNEXPECTED_PACKET_FROM_SERVER  217 CLIENT_HAS_CONNECTED_TO_WRONG_PORT""",
    ),
)


def _parsed() -> dict[int, tuple[str, ErrorVerdict]]:
    table: dict[int, tuple[str, ErrorVerdict]] = {}
    for verdict, listed in _TABLE:
        words = listed.split()
        for number, name in zip(words[::2], words[1::2], strict=True):
            table[int(number)] = (name, verdict)
    return table


KNOWN: dict[int, tuple[str, ErrorVerdict]] = _parsed()
"""Each known code's name and verdict."""


def verdict_on_code(code: int, text: str = "") -> ErrorVerdict:
    """The verdict on a server's error `code`; `text` decides where one code has two meanings."""
    if code == 252 and "partitions for single INSERT" in text:
        return PARTITIONS  # not too many parts: a retry would never help, smaller pieces always do
    return KNOWN[code][1] if code in KNOWN else UNKNOWN


def relief_of_code(code: int) -> Relief | None:
    """What a server that answers with `code` wants instead; None: the same again later."""
    if code in _MEMORY:
        return Relief.SMALLER
    return Relief.FEWER if code in KNOWN and KNOWN[code][1] in (PARTS, BUSY) else None


_MEMORY = frozenset({173, 241})
"""CANNOT_ALLOCATE_MEMORY and MEMORY_LIMIT_EXCEEDED."""


def is_of_one_server(code: int | None) -> bool:
    """Whether another server of the same cluster may succeed where this failed; None: no answer."""
    return code is None or verdict_on_code(code) in (NETWORK, SLOW, DISK, KEEPER, LEAVING)


def verdict_on_status(status: int) -> ErrorVerdict:
    """The verdict on an HTTP status that came without a code: from a proxy, or another service."""
    match status:
        case 400:
            return PORT
        case 401 | 403:
            return LOGIN
        case 404:
            return PATH
        case 408 | 504:
            return SLOW
        case 429:
            return BUSY
        case 502 | 503:
            return NETWORK
        case _:
            return UNKNOWN
