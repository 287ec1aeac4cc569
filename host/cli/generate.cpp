// speckvctl generate: the manual page and the shell's completion, from the table.
#include <string>

#include "cli/command.hpp"

namespace speckv::cli {
namespace {

bool positional(const Option& option) {
  return option.name[0] != '-';
}

// "-" as a minus, and nothing that troff could take for a request.
std::string troff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
  }
  if (!escaped.empty() && (escaped[0] == '.' || escaped[0] == '\'')) {
    escaped.insert(0, "\\&");
  }
  return escaped;
}

std::string usage(const Command& command) {
  std::string line = std::string(".B ") + command.name + "\n";
  for (const Option& option : command.options) {
    const bool plain = option.value[0] == '\0' || positional(option);
    std::string word = troff(option.name);
    if (!plain) word += " " + troff(option.value);
    line += (option.required ? word : "[" + word + "]") + "\n";
  }
  return line;
}

std::string manual() {
  std::string text =
      ".\\\" Written by `speckvctl generate man` from the table of its commands.\n"
      ".TH SPECKVCTL 1 \"\" \"cxlspeckv\" \"User Commands\"\n"
      ".SH NAME\nspeckvctl \\- devices, engines, stores and pools of cxlspeckv\n"
      ".SH SYNOPSIS\n.B speckvctl\n.I COMMAND\n[\\fIARGUMENT\\fR...]\n"
      ".SH DESCRIPTION\n"
      "Data goes to the standard output, messages to the standard error. With \\-\\-json "
      "the output is a document of the schema speckvctl.schema.json.\n"
      ".SH COMMANDS\n";
  for (const Command& command : commands()) {
    text += ".SS " + std::string(command.name) + "\n" + usage(command) + ".PP\n" +
            troff(command.help) + ".\n";
    for (const Option& option : command.options) {
      text += ".TP\n.B " + troff(option.name) + "\n" + troff(option.help) + "\n";
    }
  }
  return text +
         ".SH EXIT STATUS\n0: done. 1: it failed. 2: bad arguments. Of "
         ".BR health : "
         "3: degraded. 4: failed.\n";
}

std::string completion() {
  std::string names, cases;
  for (const Command& command : commands()) {
    names += (names.empty() ? "" : " ") + std::string(command.name);
    std::string words = "--help";
    for (const Option& option : command.options) {
      if (!positional(option)) words += " " + std::string(option.name);
      for (const char* value : option.among)
        words += " " + std::string(value);
    }
    cases += "    " + std::string(command.name) + ") words=\"" + words + "\" ;;\n";
  }
  return "# Written by `speckvctl generate bash` from the table of its commands.\n"
         "_speckvctl() {\n"
         "  local words= word=${COMP_WORDS[COMP_CWORD]}\n"
         "  case ${COMP_WORDS[1]} in\n" +
         cases +
         "  esac\n"
         "  [ \"$COMP_CWORD\" -gt 1 ] || words=\"" +
         names +
         " --help\"\n"
         "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")\n"
         "  [[ $word = -* || $COMP_CWORD -eq 1 ]] ||\n"
         "    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$word\")\n"
         "}\n"
         "complete -o filenames -F _speckvctl speckvctl\n";
}

}  // namespace

int generate(const Arguments& arguments) {
  print(arguments.action == "man" ? manual() : completion());
  return kDone;
}

}  // namespace speckv::cli
