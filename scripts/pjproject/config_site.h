/* Compile-time limits of the pjproject libraries, sized for thousands of calls in one process.
 *
 * Every number here is a table or a queue bound inside the libraries; `recorder doctor` prints the ones in force.
 */
#define NDEBUG                                  1   /* assert() must never end a process that carries calls */
#define PJ_DEBUG                                0
#define PJ_ENABLE_EXTRA_CHECK                   1   /* bad arguments return PJ_EINVAL instead */
#define PJ_LOG_MAX_LEVEL                        5
#define PJ_HAS_IPV6                             1

/* One call is two legs, one leg is one pjsua call, two sockets and two conference ports. */
#define PJSUA_MAX_CALLS                         4096
#define PJSUA_MAX_ACC                           256
#define PJSUA_MAX_CONF_PORTS                    20000
#define PJSIP_MAX_TSX_COUNT                     65535
#define PJSIP_MAX_DIALOG_COUNT                  65535
#define PJSIP_MAX_MODULE                        64
#define PJSIP_MAX_PKT_LEN                       16384
#define PJSIP_MAX_URL_SIZE                      2048 /* the default, 256, refuses dialogs over long legal From and To */
#define PJSIP_TRANSPORT_SERVER_IDLE_TIME_FIRST  30   /* seconds for a connection's first message: silent ones cost */
#define PJSIP_UDP_SO_RCVBUF_SIZE                (4 * 1024 * 1024)
#define PJSIP_UDP_SO_SNDBUF_SIZE                (4 * 1024 * 1024)
#define PJ_IOQUEUE_MAX_HANDLES                  16384

/* The default (EPOLLEXCLUSIVE) removes and adds the descriptor twice for every packet. One thread polls each queue here,
 * so that plain level-triggered epoll is safe and costs half the system calls. */
#define PJ_IOQUEUE_DEFAULT_EPOLL_FLAGS          0
#define PJ_IOQUEUE_MAX_EVENTS_IN_SINGLE_POLL    128

#define PJMEDIA_HAS_VIDEO                       0
#define PJMEDIA_SRTP_HAS_DTLS                   1   /* keys on the media path (RFC 5764), beside SDES */
#define PJMEDIA_CONF_BACKEND                    PJMEDIA_CONF_PARALLEL_BRIDGE_BACKEND
#define PJMEDIA_CONF_THREADS                    1   /* raised at run time by media.bridge_threads */
#define PJMEDIA_CONF_USE_AGC                    0   /* a recording must not change levels */
#define PJMEDIA_RESAMPLE_IMP                    PJMEDIA_RESAMPLE_SPEEX
#define PJMEDIA_STREAM_ENABLE_KA                0
#define PJMEDIA_CODEC_MAX_SILENCE_PERIOD        -1
