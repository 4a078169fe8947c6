# ltrp::node_api: Node-API headers from the npm packages, the same ones under cmake-js and under plain CMake.
add_library(ltrp_node_api INTERFACE)
add_library(ltrp::node_api ALIAS ltrp_node_api)
# The installed package has its dependencies wherever the package manager put them; scripts/install.mjs says where.
set(modules "${CMAKE_CURRENT_SOURCE_DIR}/node_modules")
set(LTRP_NODE_API_HEADERS "${modules}/node-api-headers/include;${modules}/node-addon-api" CACHE STRING
    "Folders of node_api.h and napi.h")
foreach(folder ${LTRP_NODE_API_HEADERS})
  if(NOT EXISTS "${folder}")
    message(FATAL_ERROR "${folder} is missing: run `npm ci` first, or configure with -DLTRP_BUILD_ADDON=OFF.")
  endif()
  target_include_directories(ltrp_node_api SYSTEM INTERFACE "${folder}")
endforeach()
target_compile_definitions(ltrp_node_api INTERFACE NAPI_VERSION=8 NAPI_CPP_EXCEPTIONS)
if(CMAKE_SYSTEM_NAME STREQUAL "Darwin")
  target_link_options(ltrp_node_api INTERFACE -undefined dynamic_lookup)
endif()
