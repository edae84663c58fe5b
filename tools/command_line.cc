// SPDX-FileCopyrightText: the nasbackup founders
// SPDX-License-Identifier: Apache-2.0
//
// The parser; see command_line.h. CLI11 and getopt_long were weighed: the one lets a bare optional value swallow the next word,
// the other abbreviates names and prints its own messages.
#include "tools/command_line.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "tools/printable.h"

namespace nasbackup::tools {

namespace {

std::string dashed(const Option& option) { return "--" + std::string(option.name); }

std::string with_value(const Option& option) { return dashed(option) + " " + std::string(option.metavar); }

/// Number of letters to add, drop or change to make one of the other.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, change}));
    }
  }
  return row.back();
}

class Parser {
 public:
  Parser(std::span<const std::string> words, std::span<const Option> table) : words_(words), table_(table) {}

  CommandLine parse() {
    take_verb();
    while (next_ < words_.size()) take_word(words_[next_++]);
    if (!result_.has("help")) check_operands();
    return std::move(result_);
  }

 private:
  void take_verb() {
    if (words_.empty()) throw UsageError("no verb: write " + verb_names() + ", or --help");
    const std::string& word = words_[next_++];
    result_.verb = find_verb(word);
    if (result_.verb != nullptr) return;
    if (word.starts_with("-"))
      throw UsageError(printable(word) + ": write the verb first: " + verb_names() + " (or only --help or --version)");
    std::vector<std::string> names;
    for (const Verb& verb : verbs()) names.emplace_back(verb.name);
    const std::string near = nearest(word, names);
    throw UsageError(printable(word) + ": no such verb: write " + (near.empty() ? verb_names() : near));
  }

  static std::string verb_names() {
    std::string names;
    for (const Verb& verb : verbs())
      names += (names.empty() ? "" : &verb == &verbs().back() ? " or " : ", ") + std::string(verb.name);
    return names;
  }

  void take_word(const std::string& word) {
    if (only_operands_ || word.size() < 2 || word[0] != '-') return result_.operands.push_back(word);
    if (word == "--")
      only_operands_ = true;
    else if (word[1] == '-')
      take_long(word.substr(2));
    else
      take_short(word.substr(1));
  }

  void take_long(const std::string& text) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const Option* option = find([&](const Option& o) { return o.name == name; });
    if (option == nullptr) refuse_unknown("--" + name);
    std::optional<std::string> attached;
    if (equals != std::string::npos) attached = text.substr(equals + 1);
    if (option->value == Value::none && attached) refuse(dashed(*option) + " takes no value: write " + dashed(*option));
    add(*option, attached);
  }

  // Flags may be bundled; the first letter that takes a value takes the rest of the word.
  void take_short(const std::string& letters) {
    for (std::size_t i = 0; i < letters.size(); ++i) {
      const Option* option = find([&](const Option& o) { return o.letter != 0 && o.letter == letters[i]; });
      if (option == nullptr) refuse_unknown(std::string("-") + letters[i], letters);
      const std::string rest = letters.substr(i + 1);
      if (option->value == Value::none) {
        if (rest.starts_with("=")) refuse(std::string("-") + letters[i] + " takes no value: write -" + letters[i]);
        add(*option, std::nullopt);
        continue;
      }
      if (rest.starts_with("=")) return add(*option, rest.substr(1));
      if (option->value == Value::required) return add(*option, rest.empty() ? std::nullopt : std::optional(rest));
      add(*option, std::nullopt);  // optional, nothing attached: what follows are more letters
    }
  }

  template <class Condition>
  const Option* find(Condition condition) const {
    for (const Option& option : table_)
      if ((option.verbs & result_.verb->bit) != 0 && condition(option)) return &option;
    return nullptr;
  }

  void add(const Option& option, std::optional<std::string> value) {
    if (option.value == Value::required && !value) value = next_word(option);
    if (option.value == Value::required && value->empty())
      refuse(dashed(option) + ": the value is empty: write " + with_value(option));
    check_choice(option, value);
    std::vector<std::string>& values = result_.values[std::string(option.name)];
    if (!values.empty() && !option.repeatable && values.front() != value.value_or(""))
      refuse(dashed(option) + " is given twice, with different values: write it once");
    if (values.empty() || option.repeatable) values.push_back(value.value_or(""));
  }

  // The next word, unless it is an option that we know: then the value was forgotten ("--to=--json" still says it).
  std::string next_word(const Option& option) {
    const bool forgotten =
        next_ == words_.size() || words_[next_] == "--" || find([&](const Option& o) { return words_[next_] == dashed(o); });
    if (forgotten) refuse(dashed(option) + " needs a value: write " + with_value(option));
    return words_[next_++];
  }

  void check_choice(const Option& option, const std::optional<std::string>& value) const {
    if (!value) return;
    const std::string allowed = choices_instead(option, *value);
    if (!allowed.empty()) refuse(dashed(option) + " " + printable(*value) + ": write " + allowed);
  }

  [[noreturn]] void refuse(const std::string& line) const { throw UsageError(std::string(result_.verb->name) + ": " + line); }

  [[noreturn]] void refuse_unknown(const std::string& word, const std::string& bundle = {}) const {
    for (const Option& option : table_) {
      if (dashed(option) != word && (option.letter == 0 || std::string("-") + option.letter != word)) continue;
      refuse(word + " is not an option of " + std::string(result_.verb->name) + ": leave it out (it belongs to " +
             owners(option) + ")");
    }
    std::vector<std::string> names;
    for (const Option& option : table_)
      if ((option.verbs & result_.verb->bit) != 0) names.push_back(dashed(option));
    const std::string near = nearest(word.starts_with("--") ? word : "--" + bundle, names);
    const std::string help = "nasbackup " + std::string(result_.verb->name) + " --help lists the options";
    refuse(printable(word) + ": no such option: " + (near.empty() ? help : "write " + near));
  }

  static std::string owners(const Option& option) {
    std::string names;
    for (const Verb& verb : verbs())
      if ((option.verbs & verb.bit) != 0) names += (names.empty() ? "" : ", ") + std::string(verb.name);
    return names;
  }

  void check_operands() const {
    const Verb& verb = *result_.verb;
    const std::string synopsis = "nasbackup " + std::string(verb.name) + " " + std::string(verb.operands);
    if (result_.operands.size() < verb.min_operands) refuse("something is missing: write " + synopsis);
    if (result_.operands.size() > verb.max_operands)
      refuse(printable(result_.operands[verb.max_operands]) + ": one word too many: write " + synopsis);
    for (const std::string& operand : result_.operands)
      if (operand.empty()) refuse("an empty name: write " + synopsis);
  }

  std::span<const std::string> words_;
  std::span<const Option> table_;
  std::size_t next_ = 0;
  bool only_operands_ = false;
  CommandLine result_;
};

}  // namespace

const std::string* CommandLine::value(std::string_view option) const {
  const auto found = values.find(option);
  return found == values.end() ? nullptr : &found->second.front();
}

std::vector<std::string> CommandLine::all(std::string_view option) const {
  const auto found = values.find(option);
  return found == values.end() ? std::vector<std::string>{} : found->second;
}

CommandLine parse_command_line(std::span<const std::string> words, std::span<const Option> table) {
  return Parser(words, table).parse();
}

std::string choices_instead(const Option& option, std::string_view value) {
  std::string allowed;
  for (std::string_view rest = option.choices; !rest.empty();) {
    const std::size_t bar = std::min(rest.find('|'), rest.size());
    if (rest.substr(0, bar) == value) return {};
    allowed += (allowed.empty() ? "" : bar == rest.size() ? " or " : ", ") + std::string(rest.substr(0, bar));
    rest.remove_prefix(std::min(bar + 1, rest.size()));
  }
  return allowed;
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::string best;
  std::size_t least = 1 + std::max<std::size_t>(1, word.size() / 4);
  for (const std::string& candidate : candidates) {
    const std::size_t away = distance(word, candidate);
    if (away < least) least = away, best = candidate;
  }
  if (!best.empty() || word.size() < 4) return best;
  for (const std::string& candidate : candidates)  // an abbreviation: one candidate only may begin so
    if (candidate.starts_with(word)) {
      if (!best.empty()) return {};
      best = candidate;
    }
  return best;
}

}  // namespace nasbackup::tools
