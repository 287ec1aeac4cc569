// speckvctl trace compare: the table, the document, and one page of HTML without scripts.
#include <algorithm>
#include <cstdio>
#include <fstream>

#include "cli/trace.hpp"

namespace speckv::cli {
namespace {

using nlohmann::ordered_json;

std::string number(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string escaped(const std::string& text) {
  std::string safe;
  for (const char c : text) {
    if (c == '<') {
      safe += "&lt;";
    } else if (c == '&') {
      safe += "&amp;";
    } else {
      safe += c;
    }
  }
  return safe;
}

// Bars, one a row: a length of at most 1 and what stands beside it.
std::string bars(const Report& report, const std::string& title,
                 const std::vector<std::pair<double, std::string>>& values) {
  constexpr int kRow = 22, kLeft = 150, kWidth = 420;
  const int height = static_cast<int>(values.size()) * kRow + 8;
  std::string svg = "<h2>" + title + "</h2>\n<svg width=\"760\" height=\"" +
                    std::to_string(height) + "\" role=\"img\">\n";
  for (std::size_t i = 0; i < values.size(); ++i) {
    const int y = static_cast<int>(i) * kRow + 4;
    svg += "<text x=\"0\" y=\"" + std::to_string(y + 14) + "\">" +
           escaped(report.rows[i].name) + "</text><rect x=\"" + std::to_string(kLeft) +
           "\" y=\"" + std::to_string(y) + "\" width=\"" +
           number(std::max(0.0, values[i].first) * kWidth, 1) +
           "\" height=\"16\" fill=\"#4a78b0\"/><text x=\"" +
           number(kLeft + 6 + std::max(0.0, values[i].first) * kWidth, 1) + "\" y=\"" +
           std::to_string(y + 14) + "\">" + values[i].second + "</text>\n";
  }
  return svg + "</svg>\n";
}

// What had become of the bytes that a policy fetched ahead, as time went by: three lines
// that rise, the highest of which fills the height.
std::string over_time(const Report::Row& row) {
  using trace::StagedSoFar;
  struct Line {
    const char *name, *colour;
    std::uint64_t StagedSoFar::*bytes;
  };
  constexpr Line kLines[] = {{"useful", "#3a8f4d", &StagedSoFar::useful},
                             {"late", "#c98a1b", &StagedSoFar::late},
                             {"wasted", "#b5483a", &StagedSoFar::wasted}};
  constexpr double kLeft = 70, kTop = 10, kWidth = 500, kHeight = 150;
  if (row.over_time.empty()) return {};
  const StagedSoFar& end = row.over_time.back();
  const auto most = static_cast<double>(std::max({end.useful, end.late, end.wasted}));
  if (most == 0) return {};
  const double seconds = std::max(end.at, 1e-9);
  const auto text = [](double x, double y, const std::string& what,
                       const char* more = "") {
    return "<text x=\"" + number(x, 0) + "\" y=\"" + number(y, 0) + "\"" + more + ">" +
           what + "</text>\n";
  };
  std::string svg =
      "<h3>" + escaped(row.name) +
      "</h3>\n<svg width=\"760\" height=\"190\" role=\"img\" aria-label=\"" +
      escaped(row.name) + "\">\n<path d=\"M" + number(kLeft, 0) + " " + number(kTop, 0) +
      "V" + number(kTop + kHeight, 0) + "H" + number(kLeft + kWidth, 0) +
      "\" fill=\"none\" stroke=\"#888\"/>\n";
  svg += text(0, kTop + 10, number(most / 1e9, most < 1e10 ? 2 : 0) + " GB") +
         text(kLeft, kTop + kHeight + 16, "0") +
         text(kLeft + kWidth - 50, kTop + kHeight + 16, number(seconds, 0) + " s");
  double y = kTop + 14;
  for (const Line& line : kLines) {
    svg += "<polyline class=\"" + std::string(line.name) + "\" fill=\"none\" stroke=\"" +
           line.colour + "\" stroke-width=\"2\" points=\"";
    for (const StagedSoFar& then : row.over_time)
      svg +=
          number(kLeft + kWidth * then.at / seconds, 1) + "," +
          number(kTop + kHeight * (1 - static_cast<double>(then.*line.bytes) / most), 1) +
          " ";
    svg.back() = '"';
    svg +=
        "/>\n" + text(kLeft + kWidth + 12, y,
                      std::string(line.name) + ", " +
                          number(static_cast<double>(end.*line.bytes) / 1e9, 2) + " GB",
                      (" fill=\"" + std::string(line.colour) + "\"").c_str());
    y += 20;
  }
  return svg + "</svg>\n";
}

std::string page(const Report& report) {
  double most = 1e-9, bytes = 1e-9;
  for (const Report::Row& row : report.rows) {
    most = std::max(most, row.stall);
    bytes = std::max(bytes, row.first["staged_bytes"].get<double>());
  }
  std::vector<std::pair<double, std::string>> stall, hits, staged;
  std::string rows, fates;
  for (const Report::Row& row : report.rows) {
    stall.emplace_back(row.stall / most,
                       number(row.stall, 1) + " s \u00b1 " + number(row.stall_half, 1));
    const double rate = row.first["top_hit_rate"].get<double>();
    hits.emplace_back(rate, number(rate, 3));
    const double all = row.first["staged_bytes"].get<double>();
    const double useful = row.first["useful_bytes"].get<double>();
    staged.emplace_back(all / bytes, number(all / 1e12, 2) + " TB, " +
                                         (all > 0 ? number(useful / all, 2) : "-") +
                                         " of it read");
    rows += "<tr><td>" + escaped(row.name) + "<td>" + escaped(row.help) + "<td>" +
            number(row.stall, 1) + " \u00b1 " + number(row.stall_half, 1) + "<td>" +
            number(100 * row.cut, 1) + " \u00b1 " + number(100 * row.cut_half, 1);
    for (const char* const key : {"stall_p50", "stall_p95", "stall_p99", "top_hit_rate"})
      rows += "<td>" + number(row.first[key].get<double>(), 3);
    rows += "</tr>\n";
    fates += over_time(row);
  }
  return "<!doctype html>\n<meta charset=\"utf-8\"><title>" + escaped(report.trace) +
         "</title>\n<style>body{font:14px sans-serif;margin:2em}td,th{padding:2px "
         "10px;text-align:left}svg text{font-size:13px}</style>\n<h1>" +
         escaped(report.trace) + " on node " + escaped(report.node) + ", " +
         std::to_string(report.seeds) +
         " seeds</h1>\n<table>\n<tr><th>policy<th>what it does<th>stall, s<th>cut "
         "against "
         "lru, %<th>p50, s<th>p95<th>p99<th>hits in the first tier</tr>\n" +
         rows + "</table>\n" + bars(report, "Stall of all requests", stall) +
         bars(report, "Shared blocks that were in the first tier", hits) +
         bars(report, "Bytes fetched ahead", staged) +
         (fates.empty() ? "" : "<h2>What became of them over time</h2>\n" + fates);
}

}  // namespace

int write_report(const Report& report, const Arguments& arguments) {
  if (!arguments.output.empty()) {
    std::ofstream file(arguments.output, std::ios::binary);
    file << page(report) << std::flush;
    if (!file) return fail(Status(Code::io_error, "cannot write " + arguments.output));
  }
  if (arguments.json) {
    ordered_json rows = ordered_json::array();
    for (const Report::Row& row : report.rows) {
      ordered_json one = {{"policy", row.name},
                          {"mean_stall_seconds", row.stall},
                          {"stall_half_interval", row.stall_half},
                          {"cut", row.cut},
                          {"cut_half_interval", row.cut_half}};
      one.update(row.first);
      rows.push_back(one);
    }
    print_json("trace", {{"action", "compare"},
                         {"node", report.node},
                         {"seeds", report.seeds},
                         {"policies", rows}});
    return kDone;
  }
  print(column("POLICY", 18) + column("STALL S", 20) + column("CUT %", 16) +
        column("HITS", 8) + column("STAGED GB", 12) + "READ OF IT\n");
  for (const Report::Row& row : report.rows) {
    const double all = row.first["staged_bytes"].get<double>();
    const double useful = row.first["useful_bytes"].get<double>();
    print(column(row.name, 18) +
          column(number(row.stall, 1) + " +- " + number(row.stall_half, 1), 20) +
          column(number(100 * row.cut, 1) + " +- " + number(100 * row.cut_half, 1), 16) +
          column(number(row.first["top_hit_rate"].get<double>(), 3), 8) +
          column(number(all / 1e9, 0), 12) + (all > 0 ? number(useful / all, 2) : "-") +
          "\n");
  }
  return kDone;
}

}  // namespace speckv::cli
