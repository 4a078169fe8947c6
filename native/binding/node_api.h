// The only place where napi.h is included, so that every file of this folder sees it with the same settings.
#pragma once

#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
// A worker that is being terminated can no longer take an exception; without this, throwing one aborts the
// process.
#ifndef NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#define NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS
#endif
#include <napi.h>
