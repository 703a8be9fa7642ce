/* What must hold, checked in the debug build (COMETLOG_DEBUG=1) and free in the release build. */
#ifndef COMETLOG_INVARIANT_H
#define COMETLOG_INVARIANT_H

#ifdef COMETLOG_DEBUG
#include <assert.h>
#define invariant(condition) assert(condition)
#else
#define invariant(condition) ((void)0)
#endif

#endif
