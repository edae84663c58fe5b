// Kept to show that the test of the floors finds this edge.
#include <boost/asio/io_context.hpp>
