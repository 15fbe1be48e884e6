// `ranvier view`: serves the live neuron, the live population and every run to a browser; `ranvier report`: runs as a
// file.
#include <thread>

#include "tools/cli.h"
#if defined(RANVIER_HAS_VIEW)
#include "tools/run.h"
#include "tools/view/app.h"
#include "tools/view/gate.h"
#include "tools/view/report.h"
#endif

namespace ranvier::cli {
namespace {

struct ViewOptions {
  Common common;
  std::string address = "127.0.0.1", runs = "runs";
  std::vector<std::string> hosts;
  int port = 8080;
};

struct ReportOptions {
  Common common;
  std::vector<std::string> runs;
  std::string out = "report.html";
};

#if defined(RANVIER_HAS_VIEW)

void run(const ViewOptions& options) {
  if (options.port < 0 || options.port > 65535)
    throw UsageError(fmt::format("--port {}: must be from 0 to 65535", options.port));
  options.common.start();
  view::ServerOptions server;
  server.address = options.address, server.port = static_cast<uint16_t>(options.port);
  server.hosts = options.hosts, server.runs = options.runs;
  if (!view::is_loopback(options.address)) server.token = view::make_token();
  watch_for_interruption();
  const view::App app(server);
  options.common.say("Ranvier is at {}", app.server().url());
  if (!server.token.empty())
    options.common.say("Whoever has this address may watch and steer; others are refused. It is not encrypted.");
  if (!std::filesystem::is_directory(server.runs))
    options.common.say("No folder '{}' yet: runs are shown once there is one.", server.runs.string());
  options.common.say("Ctrl-C ends it.");
  options.common.print({{"url", app.server().url()}, {"port", app.server().port()}});
  while (!interrupted()) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const view::ServerCounts counts = app.server().counts();
  fmt::print(stderr, "ended: {} frames sent, {} left out for slow pages, {} requests refused\n", counts.frames,
             counts.left_out, counts.refused);
  throw Exit{130};
}

void report(const ReportOptions& options) {
  const std::vector<std::filesystem::path> folders(options.runs.begin(), options.runs.end());
  const std::string html = view::report_html(folders);
  write_file(options.out, html);
  options.common.say("{}: {} run{}, {:.0f} KB, needs nothing else", options.out, folders.size(),
                     folders.size() == 1 ? "" : "s", 1e-3 * static_cast<double>(html.size()));
  options.common.print({{"out", options.out}, {"runs", options.runs}, {"bytes", html.size()}});
}

#else

[[noreturn]] void missing() {
  throw UsageError("this build has no viewer: it needs libboost-dev, libjs-three and libjs-dygraphs, then cmake again");
}
void run(const ViewOptions&) { missing(); }
void report(const ReportOptions&) { missing(); }

#endif

void add_report(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  auto* command = subcommand(app, "report", "Writes runs as one HTML file to send to a colleague");
  command->add_flag("--json", options->common.json, "One JSON object on standard output");
  command->add_option("runs", options->runs, "Run folders")->required();
  command->add_option("--out", options->out, "The file")->capture_default_str();
  command->callback([options] { report(*options); });
}

}  // namespace

void add_view(CLI::App& app) {
  add_report(app);
  auto options = std::make_shared<ViewOptions>();
  auto* command = subcommand(app, "view", "Shows a live neuron, a live population and every run in a browser");
  options->common.add_to(*command);
  command->add_option("--port", options->port, "0 for any free one")->capture_default_str();
  command->add_option("--runs", options->runs, "The folder of run folders")->capture_default_str();
  command->add_option("--address", options->address, "Where to listen; elsewhere than on this machine needs a token")
      ->capture_default_str();
  command->add_option("--host", options->hosts, "A further name under which browsers reach this machine");
  command->callback([options] { run(*options); });
}

}  // namespace ranvier::cli
